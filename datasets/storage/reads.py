"""The SQL for reading records: one statement, which also returns the dataset's metadata version.

    read(dataset, query) -> Found            one round trip, within the calling token's fair share
    read_sync(dataset, query) -> Found       the same on Django's connection, for pages

A page of an answer ends at its limit, at query.records_max records or at ANSWER_CHARACTERS_MAX characters;
then Found.next is the record with which the next one begins.
Source: docs/decisions/0006-one-table-for-all-records.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from apperate.database import shares
from datasets.query.cursors import Place
from datasets.query.filter_sql import condition_sql, date_sql
from datasets.query.parsing import Query
from datasets.records.checking import RECORD_BYTES_MAX
from datasets.records.system_properties import System
from datasets.storage.catalog import Metadata

ANSWER_CHARACTERS_MAX = 16_000_000
# This few records cannot exceed the limit together, so they need no counting.
SURELY_SHORT = ANSWER_CHARACTERS_MAX // RECORD_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Found:
    """What a read found: the metadata version it was made with, and JSON texts in the requested order.

    `systems` has one entry per text if the query requested it. `next` is the first record that did not fit.
    `count`: the records of the page, including those left out because earlier ones were too long.
    """

    version: int | None  # None: the dataset is gone
    texts: list[str]
    systems: list[System] = field(default_factory=list)
    next: Place | None = None
    count: int = 0


class _Line(NamedTuple):
    """One row of the statement. `text` is None for a record that did not fit, and for no record at all."""

    version: int
    text: str | None
    key_number: int | None
    n: int
    at: datetime
    key: str
    subkey: str
    shard: int
    date: datetime
    updated: datetime


def page_records(query: Query) -> int:
    """The most records that a page of the answer has."""
    sampled = -(-query.limit // query.interval)
    return min(sampled, query.records_max) if query.is_paged else query.records_max


def read_statement(dataset: Metadata, query: Query) -> tuple[str, dict[str, Any]]:
    """The statement of a read: at least one row, and one more than a page when there are more.

    query.limit applies per key. With a key the primary key provides the order, without one
    records_by_date does.
    """
    page = page_records(query)
    per_key = min(query.limit, (page + 1) * query.interval)
    if query.is_paged:
        per_key = (page + 1) * query.interval  # One more than the page shows whether another follows.
    parameters: dict[str, Any] = {
        "dataset": dataset.id,
        "keys": list(query.keys) or [None],  # one iteration of the loop when no key is given
        "limit": per_key,
        "offset": query.offset,
        "interval": query.interval,
        "fetched": page + 1,
        "page": page,
        "characters": ANSWER_CHARACTERS_MAX,
    }

    def bind(value: Any) -> str:
        name = f"v{len(parameters)}"
        parameters[name] = value
        return f"%({name})s"

    conditions, order, at = conditions_of(query, bind)
    limit, offset = "%(limit)s", "%(offset)s"
    if (after := query.after) is not None:
        if not query.is_paged:
            parameters["limit_first"] = max(0, min(query.limit - after.taken, per_key))
            parameters["keys"] = parameters["keys"][after.key_number :]
            limit = "CASE WHEN k.n = 1 THEN %(limit_first)s ELSE %(limit)s END"
        offset = "CASE WHEN k.n = 1 THEN 0 ELSE %(offset)s END"
    is_cut = "s.rank > %(page)s"
    total = ""
    if page > SURELY_SHORT:
        total = ", sum(length(m.data)) OVER w AS total"
        is_cut += " OR (s.total > %(characters)s AND s.rank > 1)"
    shown = "true" if query.reads_system else is_cut
    sampled = f"WHERE (f.n - 1 - {offset}) %% %(interval)s = 0" if query.interval > 1 else ""
    sql = f"""
        SELECT d.version, f.data, f.key_n, f.n, f.at, f.key, f.subkey, f.shard, f.date, f.updated
          FROM datasets_dataset d
          LEFT JOIN LATERAL (
               SELECT CASE WHEN {is_cut} THEN NULL ELSE s.data END AS data, s.key_n, s.n,
                      CASE WHEN {is_cut} THEN s.at END AS at,
                      CASE WHEN {shown} THEN s.key END AS key,
                      CASE WHEN {shown} THEN s.subkey END AS subkey,
                      CASE WHEN {is_cut} THEN s.shard END AS shard,
                      CASE WHEN {shown} THEN s.date END AS date,
                      CASE WHEN {shown} THEN s.updated END AS updated
                 FROM (SELECT m.*, row_number() OVER w AS rank{total}
                         FROM (SELECT f.data::text AS data, k.n AS key_n, f.n, f.at, f.key, f.subkey, f.shard,
                                      f.date, f.updated
                                 FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS k(key, n)
                                CROSS JOIN LATERAL (
                                      SELECT r.*, {at} AS at, row_number() OVER (ORDER BY {order}) AS n
                                        FROM records r WHERE {" AND ".join(conditions)}
                                       ORDER BY {order} LIMIT {limit} OFFSET {offset}) f
                                {sampled}
                                ORDER BY k.n, f.n LIMIT %(fetched)s) m
                       WINDOW w AS (ORDER BY m.key_n, m.n)) s) f ON true
         WHERE d.id = %(dataset)s AND d.deleted_at IS NULL
         ORDER BY f.key_n, f.n"""  # noqa: S608  the pieces are constants of this module
    return sql, parameters


def conditions_of(query: Query, bind: Any) -> tuple[list[str], str, str]:
    """The conditions on a record `r`, the order, and the expression for the date that both use."""
    conditions = ["r.dataset_id = d.id"]
    at = "r.date"
    if query.date_field is not None:
        at = f"({date_sql(bind(query.date_field) + '::text')})"
        conditions.append(f"{at} IS NOT NULL")
    if query.keys:
        conditions.append('r.key = k.key COLLATE "C"')
    if query.subkey is not None:
        conditions.append(f"r.subkey = {bind(query.subkey)}")
    if query.from_at is not None:
        conditions.append(f"{at} >= {bind(query.from_at)}")
    if query.to_at is not None:
        conditions.append(f"{at} < {bind(query.to_at)}")
    if query.updated_from is not None:
        conditions.append(f"r.updated >= {bind(query.updated_from)}")
    if query.condition is not None:
        conditions.append(condition_sql(query.condition, bind))
    direction, compared = ("ASC", ">=") if query.order == "asc" else ("DESC", "<=")
    columns = [at, "r.subkey", "r.shard"] if query.keys else [at, "r.key", "r.subkey", "r.shard"]
    if (after := query.after) is not None:
        values = [after.date, after.subkey, after.shard]
        if not query.keys:
            values.insert(1, after.key)
        bound = ", ".join(bind(value) for value in values)
        begins = f"({', '.join(columns)}) {compared} ({bound})"
        conditions.append(begins if len(query.keys) <= 1 else f"(k.n > 1 OR {begins})")
    return conditions, ", ".join(f"{column} {direction}" for column in columns), at


def _found(rows: Sequence[tuple[Any, ...]], query: Query) -> Found:
    texts: list[str] = [row[1] for row in rows if row[1] is not None]
    systems: list[System] = []
    if query.reads_system:
        lines = [_Line(*row) for row in rows if row[1] is not None]
        systems = [System(line.key, line.subkey, line.date, line.updated) for line in lines]
    # The record that did not fit is the last row; without any record the only row carries just the version.
    cut = _Line(*rows[len(texts)]) if len(texts) < len(rows) else None
    if query.turned:
        texts.reverse()
        systems.reverse()
    place = _place(cut, query) if cut is not None and cut.key_number is not None else None
    count = min(len(rows), page_records(query)) if rows and rows[0][2] is not None else 0
    return Found(rows[0][0] if rows else None, texts, systems, place, count)


def _place(line: _Line, query: Query) -> Place:
    """Where the next page begins: at the record that did not fit."""
    key_number, taken, passed = (line.key_number or 1) - 1, line.n - 1, query.offset
    if query.after is not None:
        if key_number == 0:
            taken, passed = taken + query.after.taken, 0
        key_number += query.after.key_number
    return Place(key_number, max(0, taken - passed), line.at, line.key, line.subkey, line.shard)


async def read(dataset: Metadata, query: Query) -> Found:
    """The records a query selects. One round trip, two for a slow query. Raises QueryCanceled after the time
    limit, and shares.Busy when this token waits too long for its turn.
    """
    statement = read_statement(dataset, query)
    return _found(await shares.fetch(*statement, about=(dataset.id, query.asks_values)), query)


def read_sync(dataset: Metadata, query: Query) -> Found:
    """read() on Django's connection, for pages."""
    with connection.cursor() as cursor:
        cursor.execute(*read_statement(dataset, query))
        return _found(cursor.fetchall(), query)
