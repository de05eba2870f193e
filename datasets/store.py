"""The SQL of changing records: write, delete, copy in. Reading them is in reads.py.

Writes run inside the caller's transaction, under a share lock on the dataset's row: writers run side by
side, and exclude dropping and editing the dataset. Source: architecture.md, Storage.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from zlib import crc32

from django.db import connection, transaction

from datasets.catalog import COLUMNS, Metadata, metadata
from datasets.records import Row

SHARDS = 32


def shard_of(dataset_id: int, key: str, *, is_wide: bool) -> int:
    """Where a record lives: by dataset, or for wide datasets by dataset and key."""
    return crc32(f"{dataset_id}/{key}".encode()) % SHARDS if is_wide else dataset_id % SHARDS


@contextmanager
def locked(dataset_id: int) -> Iterator[Metadata | None]:
    """A transaction that holds the dataset still: its metadata as it is now, or None when it is gone."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {COLUMNS} WHERE d.id = %s AND d.deleted_at IS NULL FOR SHARE OF d", [dataset_id]
        )  # noqa: S608
        row = cursor.fetchone()
        yield metadata(row) if row else None


def lift_time_limits() -> None:
    """Let this transaction take its time: for jobs, not for requests."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")


def limit_statement(*, milliseconds: int) -> None:
    """Let each statement of this transaction take at most so long."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(milliseconds)])


def write(dataset: Metadata, rows: Sequence[Row], *, replaces: bool, now: datetime) -> int:
    """Store rows; returns how many were stored. Inside locked(). All or nothing.

    A row whose unique index exists replaces the old one, or is left out when replaces=False. Within
    `rows` the last of the same index counts when replacing, else the first.
    """
    unique: dict[tuple[str, datetime, str], Row] = {}
    for row in rows:
        index = (row.key, row.date, row.subkey)
        if replaces or index not in unique:
            unique[index] = row
    action = "DO UPDATE SET data = excluded.data, updated = excluded.updated" if replaces else "DO NOTHING"
    kept = list(unique.values())
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO records (dataset_id, shard, key, subkey, date, updated, data)
            SELECT %(dataset)s, r.shard, r.key, r.subkey, r.date, %(now)s, r.data::json
              FROM unnest(%(shards)s::smallint[], %(keys)s::text[], %(subkeys)s::text[],
                          %(dates)s::timestamptz[], %(texts)s::text[]) AS r(shard, key, subkey, date, data)
             ORDER BY r.key, r.date, r.subkey  -- one order in all writers, so that they cannot deadlock
            ON CONFLICT (dataset_id, key, date, subkey, shard) {action}""",  # noqa: S608  two constants
            {
                "dataset": dataset.id,
                "now": now,
                "shards": [shard_of(dataset.id, row.key, is_wide=dataset.is_wide) for row in kept],
                "keys": [row.key for row in kept],
                "subkeys": [row.subkey for row in kept],
                "dates": [row.date for row in kept],
                "texts": [row.data for row in kept],
            },
        )
        return cursor.rowcount


@dataclass(frozen=True, slots=True)
class Copied:
    """Counts of a copy: rows taken in, rows stored (new or replaced), and those left out as duplicates."""

    rows: int
    stored: int

    @property
    def duplicates(self) -> int:
        return self.rows - self.stored


def copy_in(dataset: Metadata, rows: Iterable[Row], *, replaces: bool, now: datetime) -> Copied:
    """Store any number of rows through COPY, in constant memory. Inside locked(). All or nothing."""
    lift_time_limits()
    with connection.cursor() as cursor:
        cursor.execute(
            """CREATE TEMPORARY TABLE incoming (n bigint GENERATED ALWAYS AS IDENTITY, shard smallint,
               key text COLLATE "C", subkey text COLLATE "C", date timestamptz, data json) ON COMMIT DROP"""
        )
        count = 0
        with cursor.copy("COPY incoming (shard, key, subkey, date, data) FROM STDIN") as copy:
            for row in rows:
                shard = shard_of(dataset.id, row.key, is_wide=dataset.is_wide)
                copy.write_row((shard, row.key, row.subkey, row.date, row.data))
                count += 1
        action = (
            "DO UPDATE SET data = excluded.data, updated = excluded.updated" if replaces else "DO NOTHING"
        )
        cursor.execute(
            f"""
            INSERT INTO records (dataset_id, shard, key, subkey, date, updated, data)
            SELECT DISTINCT ON (key, date, subkey) %s, shard, key, subkey, date, %s, data
              FROM incoming ORDER BY key, date, subkey, n {"DESC" if replaces else "ASC"}
            ON CONFLICT (dataset_id, key, date, subkey, shard) {action}""",  # noqa: S608  constants
            [dataset.id, now],
        )
        stored = cursor.rowcount
        cursor.execute("DROP TABLE incoming")
        return Copied(count, stored)


# The records of a key, and of a subkey and a half-open time span when they are given. Index: records_pkey.
SELECTED = """
      FROM records
     WHERE dataset_id = %(dataset)s AND key = %(key)s
       AND (%(subkey)s::text IS NULL OR subkey = %(subkey)s)
       AND (%(from_at)s::timestamptz IS NULL OR date >= %(from_at)s)
       AND (%(to_at)s::timestamptz IS NULL OR date < %(to_at)s)
       AND (%(until)s::timestamptz IS NULL OR updated <= %(until)s)"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records a delete means; the time span is half-open. `until`: none that were written later."""

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
    """Remove all records of these datasets for good, those in the trash included."""
    with connection.cursor() as cursor:
        for table in ("records", "deleted_records"):
            cursor.execute(f"DELETE FROM {table} WHERE dataset_id = ANY(%s)", [list(dataset_ids)])  # noqa: S608


@dataclass(frozen=True, slots=True)
class Size:
    """How much a dataset holds."""

    records: int
    bytes: int
    updated_at: datetime | None


def sizes(dataset_ids: Sequence[int]) -> dict[int, Size]:
    """Records, bytes of JSON text and the last change of each dataset. Counts rows: for pages alone."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT dataset_id, count(*), coalesce(sum(octet_length(data::text)), 0), max(updated)
                 FROM records WHERE dataset_id = ANY(%s) GROUP BY dataset_id""",
            [list(dataset_ids)],
        )
        return {
            dataset_id: Size(records, int(total), at) for dataset_id, records, total, at in cursor.fetchall()
        }
