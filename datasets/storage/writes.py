"""The SQL for changing records: write, delete, copy in. Reading them is in reads.py.

Writes run inside the caller's transaction, under a share lock on the dataset's row: writers run in
parallel, but exclude dropping and editing the dataset.
Source: docs/decisions/0006-one-table-for-all-records.md.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zlib import crc32

from django.db import connection, transaction

from datasets.records.checking import Row
from datasets.storage.catalog import COLUMNS, Metadata, metadata
from datasets.storage.limits import ADD, USAGE_COLUMNS, Usage, add, record_bytes, usage

SHARDS = 32


def shard_of(dataset_id: int, key: str, *, is_wide: bool) -> int:
    """Which shard a record is in: by dataset, or for wide datasets by dataset and key."""
    return crc32(f"{dataset_id}/{key}".encode()) % SHARDS if is_wide else dataset_id % SHARDS


_HELD = "WHERE d.id = %s AND d.deleted_at IS NULL FOR SHARE OF d"


@contextmanager
def locked(dataset_id: int) -> Iterator[Metadata | None]:
    """A transaction that locks the dataset against changes: its current metadata, or None when it is gone."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SELECT {COLUMNS} {_HELD}", [dataset_id])
        row = cursor.fetchone()
        yield metadata(row) if row else None


@contextmanager
def locked_with_usage(
    dataset_id: int, *, known: Metadata | None = None
) -> Iterator[tuple[Metadata, Usage] | None]:
    """locked(), with the workspace's usage; inside another transaction it is part of that.

    `known`: recently read metadata; reused if its version is still current.
    """
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        cursor.execute(f"SELECT {USAGE_COLUMNS}, {COLUMNS} {_HELD}", [dataset_id])
        row = cursor.fetchone()
        yield (metadata(row[2:], known=known), usage([row])) if row else None


def lift_time_limits() -> None:
    """Remove this transaction's time limits: for jobs, not for requests."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")


# Counting a large dataset's records is given up after this long.
COUNTING_MILLISECONDS = 1_500


def limit_statement(*, milliseconds: int) -> None:
    """Limit each statement of this transaction to this time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(milliseconds)])


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows a write stored, new or replaced, and by how many bytes the workspace grew."""

    records: int
    bytes: int


# The existing versions of the rows to be written, locked in an order all writers share. LATERAL, so that each
# row is looked up by its primary key whatever the planner estimates for the dataset.
_OLD = f"""
old AS MATERIALIZED (
    SELECT i.key, i.date, i.subkey, present.bytes
      FROM (SELECT * FROM incoming ORDER BY key, date, subkey OFFSET 0) i
     CROSS JOIN LATERAL (
           SELECT {record_bytes("r")} AS bytes FROM records r
            WHERE r.dataset_id = %(dataset)s AND r.key = i.key AND r.date = i.date
              AND r.subkey = i.subkey AND r.shard = i.shard FOR UPDATE) present),"""  # noqa: S608  a constant
_IGNORING = ("", "incoming i", "DO NOTHING", "0")
# Joining the new rows with the old ones makes sure that each old row is read before it is overwritten.
_REPLACING = (
    _OLD,
    "incoming i LEFT JOIN old USING (key, date, subkey)",
    "DO UPDATE SET data = excluded.data, updated = excluded.updated",
    "(SELECT coalesce(sum(bytes), 0) FROM old)",
)


def write(dataset: Metadata, rows: Sequence[Row], *, replaces: bool, now: datetime) -> Written:
    """Store rows, and count them. Inside locked(). All or nothing.

    A row whose unique index exists replaces the old one, or is skipped when replaces=False. Within
    `rows` the last with the same index wins when replacing, else the first.
    """
    unique: dict[tuple[str, datetime, str], Row] = {}
    for row in rows:
        index = (row.key, row.date, row.subkey)
        if replaces or index not in unique:
            unique[index] = row
    old, source, action, old_bytes = _REPLACING if replaces else _IGNORING
    kept = list(unique.values())
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH incoming AS (
                SELECT u.shard, u.key COLLATE "C" AS key, u.subkey COLLATE "C" AS subkey, u.date, u.data
                  FROM unnest(%(shards)s::smallint[], %(keys)s::text[], %(subkeys)s::text[],
                              %(dates)s::timestamptz[], %(texts)s::text[])
                       AS u(shard, key, subkey, date, data)),
            {old}
            written AS (
                INSERT INTO records AS r (dataset_id, shard, key, subkey, date, updated, data)
                SELECT %(dataset)s, i.shard, i.key, i.subkey, i.date, %(now)s, i.data::json FROM {source}
                 ORDER BY i.key, i.date, i.subkey  -- one order in all writers, so that they cannot deadlock
                ON CONFLICT (dataset_id, key, date, subkey, shard) {action}
                RETURNING {record_bytes("r")} AS bytes),
            change AS (
                SELECT count(*) AS records, (coalesce(sum(bytes), 0) - {old_bytes})::bigint AS bytes
                  FROM written),
            added AS ({ADD})
            SELECT records, bytes FROM change""",  # noqa: S608  constants
            {
                "dataset": dataset.id,
                "workspace": dataset.workspace_id,
                "now": now,
                "shards": [shard_of(dataset.id, row.key, is_wide=dataset.is_wide) for row in kept],
                "keys": [row.key for row in kept],
                "subkeys": [row.subkey for row in kept],
                "dates": [row.date for row in kept],
                "texts": [row.data for row in kept],
            },
        )
        return Written(*cursor.fetchone())


@dataclass(frozen=True, slots=True)
class Copied:
    """Counts of a copy: rows received, rows stored (new or replaced), and duplicates skipped.

    `bytes`: by how much the workspace grew.
    """

    rows: int
    stored: int
    bytes: int = 0

    @property
    def duplicates(self) -> int:
        return self.rows - self.stored


# Not locked, because that would write each row once more: rows that two writers replace at the same moment
# may be counted wrongly until the next recount.
_OLD_OF_COPY = f"""(
    SELECT coalesce(sum(present.bytes), 0)
      FROM (SELECT DISTINCT key, date, subkey, shard FROM incoming) i
     CROSS JOIN LATERAL (
           SELECT {record_bytes("r")} AS bytes FROM records r
            WHERE r.dataset_id = %(dataset)s AND r.key = i.key AND r.date = i.date
              AND r.subkey = i.subkey AND r.shard = i.shard OFFSET 0) present)"""  # noqa: S608  a constant


def copy_in(
    dataset: Metadata,
    rows: Iterable[Row],
    *,
    replaces: bool,
    now: datetime,
    may_store: Callable[[], None] = lambda: None,
) -> Copied:
    """Store any number of rows through COPY, in constant memory, and count them. Inside locked().

    All or nothing. `may_store` is called once every row was received, before the first one is stored.
    """
    lift_time_limits()
    with connection.cursor() as cursor:
        cursor.execute(
            """CREATE TEMPORARY TABLE incoming (n bigint GENERATED ALWAYS AS IDENTITY, shard smallint,
               key text COLLATE "C", subkey text COLLATE "C", date timestamptz, data json) ON COMMIT DROP"""
        )
        count = 0
        # What the driver raises in between becomes Django's class, as for every statement.
        with (
            connection.wrap_database_errors,
            cursor.copy("COPY incoming (shard, key, subkey, date, data) FROM STDIN") as copy,
        ):
            for row in rows:
                shard = shard_of(dataset.id, row.key, is_wide=dataset.is_wide)
                copy.write_row((shard, row.key, row.subkey, row.date, row.data))
                count += 1
        may_store()
        _, _, action, _ = _REPLACING if replaces else _IGNORING
        old_bytes = _OLD_OF_COPY if replaces and _has_records(cursor, dataset) else "0"
        cursor.execute(
            f"""
            WITH written AS (
                INSERT INTO records AS r (dataset_id, shard, key, subkey, date, updated, data)
                SELECT DISTINCT ON (key, date, subkey) %(dataset)s, shard, key, subkey, date, %(now)s, data
                  FROM incoming ORDER BY key, date, subkey, n {"DESC" if replaces else "ASC"}
                ON CONFLICT (dataset_id, key, date, subkey, shard) {action}
                RETURNING {record_bytes("r")} AS bytes),
            change AS (
                SELECT count(*) AS records, (coalesce(sum(bytes), 0) - {old_bytes})::bigint AS bytes
                  FROM written),
            added AS ({ADD})
            SELECT records, bytes FROM change""",  # noqa: S608  constants
            {"dataset": dataset.id, "workspace": dataset.workspace_id, "now": now},
        )
        stored, more_bytes = cursor.fetchone()
        cursor.execute("DROP TABLE incoming")
        return Copied(count, stored, more_bytes)


def _has_records(cursor: Any, dataset: Metadata) -> bool:
    cursor.execute("SELECT EXISTS (SELECT 1 FROM records WHERE dataset_id = %s)", [dataset.id])
    return bool(cursor.fetchone()[0])


# The records of a key, and of a subkey and a half-open time span if given. Index: records_pkey.
SELECTED = """
      FROM records
     WHERE dataset_id = %(dataset)s AND key = %(key)s
       AND (%(subkey)s::text IS NULL OR subkey = %(subkey)s)
       AND (%(from_at)s::timestamptz IS NULL OR date >= %(from_at)s)
       AND (%(to_at)s::timestamptz IS NULL OR date < %(to_at)s)
       AND (%(until)s::timestamptz IS NULL OR updated <= %(until)s)"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records a delete selects; the time span is half-open. `until`: none written later."""

    key: str
    subkey: str | None = None
    from_at: datetime | None = None
    to_at: datetime | None = None
    until: datetime | None = None


def count(dataset: Metadata, selection: Selection, *, at_most: int) -> int:
    """How many records are selected; counting stops at `at_most`."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM (SELECT {SELECTED} LIMIT %(at_most)s) AS counted",  # noqa: S608  a constant
            asdict(selection) | {"dataset": dataset.id, "at_most": at_most},
        )
        return int(cursor.fetchone()[0])


def delete(dataset: Metadata, deletion_id: int, selection: Selection) -> int:
    """Move the selected records to the trash. Inside locked()."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH gone AS (DELETE {SELECTED} RETURNING *)
            INSERT INTO deleted_records (deletion_id, dataset_id, shard, key, subkey, date, updated, data)
            SELECT %(deletion)s, dataset_id, shard, key, subkey, date, updated, data FROM gone""",  # noqa: S608
            asdict(selection) | {"dataset": dataset.id, "deletion": deletion_id},
        )
        return cursor.rowcount


def erase(dataset_ids: Sequence[int]) -> None:
    """Permanently remove all records of these datasets, including those in the trash."""
    _count([
        _changed(f"DELETE FROM {table} AS r WHERE dataset_id = ANY(%(ids)s)", "-", ids=list(dataset_ids))  # noqa: S608
        for table in ("records", "deleted_records")
    ])  # fmt: skip


def has_more_than(dataset_id: int, records: int) -> bool:
    """Whether a dataset holds more records than this, including the trash; counting stops there."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FROM (
                 (SELECT 1 FROM records WHERE dataset_id = %(dataset)s LIMIT %(most)s)
                  UNION ALL
                 (SELECT 1 FROM deleted_records g JOIN datasets_deletion d ON d.id = g.deletion_id
                   WHERE d.dataset_id = %(dataset)s LIMIT %(most)s)) AS counted""",
            {"dataset": dataset_id, "most": records + 1},
        )
        return int(cursor.fetchone()[0]) > records


def forget_deletion(deletion_id: int) -> int:
    """Permanently remove what a delete moved to the trash; returns how many records there were."""
    return _count([_changed(FORGET, "-", id=deletion_id)])[0]


def deleted_texts(deletion_id: int) -> Iterator[str]:
    """The JSON text of each record that a delete moved to the trash, read in batches."""
    with connection.chunked_cursor() as cursor:
        cursor.execute("SELECT data::text FROM deleted_records WHERE deletion_id = %s", [deletion_id])
        while rows := cursor.fetchmany(1_000):
            for (text,) in rows:
                yield text


def put_back(deletion_id: int, *, now: datetime) -> tuple[int, int]:
    """Move what is in the trash of a delete back to the records; returns how many are back and how many not.

    Those whose unique index is in use again are lost. Inside locked().
    """
    stored, gone = _count([
        _changed(
            """INSERT INTO records AS r (dataset_id, shard, key, subkey, date, updated, data)
               SELECT dataset_id, shard, key, subkey, date, %(now)s, data FROM deleted_records
                WHERE deletion_id = %(id)s ORDER BY key, date, subkey
               ON CONFLICT (dataset_id, key, date, subkey, shard) DO NOTHING""",
            "+", id=deletion_id, now=now,
        ),
        _changed(FORGET, "-", id=deletion_id),
    ])  # fmt: skip
    return stored, gone - stored


FORGET = "DELETE FROM deleted_records AS r WHERE deletion_id = %(id)s"
Change = list[tuple[int, int, int]]  # workspace, records, and by how many bytes it grew


def _changed(statement: str, sign: str, **values: Any) -> Change:
    """Run a statement that adds (+) or removes (-) rows r, and return what to count for it."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH rows AS ({statement} RETURNING r.dataset_id, {record_bytes("r")} AS bytes)
            SELECT d.workspace_id, count(*), {sign}sum(rows.bytes)::bigint
              FROM rows JOIN datasets_dataset d ON d.id = rows.dataset_id GROUP BY d.workspace_id""",  # noqa: S608
            values,
        )
        return list(cursor.fetchall())


def _count(changes: Sequence[Change]) -> list[int]:
    """Count changes after the last of them, because others may wait for the slot; the records of each."""
    grown: Counter[int] = Counter()
    for change in changes:
        for workspace_id, _, more_bytes in change:
            grown[workspace_id] += more_bytes
    for workspace_id, more_bytes in sorted(grown.items()):
        add(workspace_id, more_bytes)
    return [sum(records for _, records, _ in change) for change in changes]


@dataclass(frozen=True, slots=True)
class Size:
    """How much a dataset holds."""

    records: int
    bytes: int
    updated_at: datetime | None


def sizes(dataset_ids: Sequence[int]) -> dict[int, Size]:
    """Records, bytes of JSON text and last change of each dataset. Counts rows: only for pages."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT dataset_id, count(*), coalesce(sum(octet_length(data::text)), 0), max(updated)
                 FROM records WHERE dataset_id = ANY(%s) GROUP BY dataset_id""",
            [list(dataset_ids)],
        )
        return {
            dataset_id: Size(records, int(total), at) for dataset_id, records, total, at in cursor.fetchall()
        }


def extents(
    dataset_ids: Sequence[int],
) -> dict[int, tuple[int | None, int | None, datetime | None, datetime | None]]:
    """Records, distinct keys, latest date and last change of each dataset that has records. Counts rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT dataset_id, sum(n)::bigint, count(*), max(date), max(updated)
                 FROM (SELECT dataset_id, key, count(*) AS n, max(date) AS date, max(updated) AS updated
                         FROM records WHERE dataset_id = ANY(%s) GROUP BY dataset_id, key) AS by_key
                GROUP BY dataset_id""",
            [list(dataset_ids)],
        )
        return {row[0]: row[1:] for row in cursor.fetchall()}
