"""Reading several datasets at once: GET /v1/data/WS/A,B/K1,K2: A's records for K1 and K2, then B's.

read() is the view of every read; a single name goes on to reading.py.
Every dataset passes every check before the first is read, so one that is not granted refuses all. The
parameters select within each pair of a dataset and a key. When reading fails halfway, the answer ends with
{"_system_error": …} in place of the missing records. Source: docs/query-parameters.md.
"""

import time
from collections.abc import Mapping
from dataclasses import replace

import psycopg
from django.http import HttpResponseBase

from apperate.database.shares import Busy
from apperate.http.parameters import CURSOR_NEEDED, LIMIT_MAX
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.api.admission import Call, admit
from datasets.api.reading import content_type, parse_in_turn, read_data, rendered
from datasets.query.cursors import question_of, read_cursor, write_cursor
from datasets.query.parameters import parse_separator
from datasets.query.parsing import KEYS_MAX, Query
from datasets.storage import reads
from datasets.storage.catalog import Metadata
from tokens.gate import payment
from tokens.gate.answers import paging_headers, pairs
from tokens.gate.calls import OUTDATED, Answer, ApiRequest, Outdated, Part
from tokens.gate.endpoint import answered, take_place
from tokens.rules.permissions import Action

PAIRS_MAX = KEYS_MAX
RECORDS_MAX = LIMIT_MAX  # in one answer
SECONDS_MAX = 15.0
# These apply to a single dataset: its new records, all of them, or its columns.
OF_ONE = ("queryId", "export", "schema")


def separator_of(request: ApiRequest) -> str:
    """The separator between names in the path: a comma, or a valid batchSeparator."""
    given = request.GET.get("batchSeparator", "")
    return given if given and parse_separator(given) else ","


async def read(
    request: ApiRequest, workspace: str, name: str, key: str | None = None, subkey: str | None = None
) -> HttpResponseBase:
    """GET /v1/data/WS/NAMES[/KEYS[/SUBKEY]]: one dataset, or a batch when several are named."""
    path = {part: text for part, text in (("key", key), ("subkey", subkey)) if text is not None}
    if separator_of(request) in name:
        return await read_batch(request, workspace, name, **path)
    return await read_data(request, workspace, name, **path)


read.policy = "token"  # type: ignore[attr-defined]


async def read_batch(
    request: ApiRequest, workspace: str, name: str, key: str | None = None, subkey: str | None = None
) -> HttpResponseBase:
    """The records of every named dataset, in path order."""
    names = tuple(dict.fromkeys(part.upper() for part in name.split(separator_of(request)) if part))
    calls: list[Call] = []

    async def admitted(is_repeat: bool) -> Call | Refusal:
        calls.clear()
        if refusal := _too_many(request, names, key):
            return refusal
        rest = {part: text for part, text in (("key", key), ("subkey", subkey)) if text is not None}
        for one in names or ("",):
            call = await admit(request, Action.READ, workspace, one, rest, fresh=is_repeat)
            if isinstance(call, Refusal):
                return call
            calls.append(call)
        return calls[0]

    async def view(call: Call) -> Answer | Refusal | Outdated:
        queries = await parse_batch(calls, key, subkey)
        if isinstance(queries, Refusal):
            return queries
        asked = [
            (one.metadata, query) for one, query in zip(calls, queries, strict=True) if query is not None
        ]
        if no := await payment.ask(call, asked, records_max=RECORDS_MAX):
            return no
        await take_place(call, records_at_most=sum(query.records_at_most for _, query in asked))
        return await _read(calls, queries, question(calls, key, subkey))

    return await answered(request, Action.READ, admitted, view)


def _too_many(request: ApiRequest, names: tuple[str, ...], key: str | None) -> Refusal | None:
    """The refusal of too many pairs of a dataset and a key; a dataset without a key counts as one."""
    keys = set(filter(None, (key or "").split(separator_of(request))))
    count = len(names) * max(1, len(keys))
    if count <= PAIRS_MAX:
        return None
    return invalid_value(
        "batch", f"{count:,} pairs of a dataset and a key", f"at most {PAIRS_MAX:,} pairs in one request"
    )


async def parse_batch(calls: list[Call], key: str | None, subkey: str | None) -> list[Query | None] | Refusal:
    """The query for each dataset; None for those that earlier pages covered."""
    asked = pairs(calls[0].request.GET)
    for name, value in asked:
        if name in OF_ONE and value:
            return invalid_value(name, value, "one dataset in the path, not several")
    queries: list[Query | None] = []
    for call in calls:
        query = await parse_in_turn(call, call.metadata, key, subkey, without=("cursor",))
        if isinstance(query, Refusal):
            return query
        queries.append(replace(query, is_paged=False, limit=min(query.limit, LIMIT_MAX * query.interval)))
    cursor = calls[0].request.GET.get("cursor")
    if not cursor:
        return queries
    after = read_cursor(cursor, question(calls, key, subkey), key=_cursor_key(calls))
    key_count = keys_of(queries[0])
    if after is None or after.key_number >= key_count * len(calls):
        return invalid_value("cursor", cursor, CURSOR_NEEDED)
    number, within = divmod(after.key_number, key_count)
    first = queries[number]
    begins = replace(first, after=replace(after, key_number=within)) if first else None
    return [None] * number + [begins] + queries[number + 1 :]


def question(calls: list[Call], key: str | None, subkey: str | None) -> str:
    """What identifies this batch's cursors."""
    names = "/".join([calls[0].target.workspace, *(call.target.name for call in calls)])
    return question_of(names, (key, subkey), pairs(calls[0].request.GET))


def _cursor_key(calls: list[Call]) -> bytes:
    """The key that encrypts the batch's cursors, if any dataset is priced."""
    return next(filter(None, (payment.cursor_key(call.metadata) for call in calls)), b"")


def keys_of(query: Query | None) -> int:
    """How many keys a dataset is queried for; no key (meaning all) counts as one."""
    return max(1, len(query.keys)) if query else 1


async def _read(calls: list[Call], queries: list[Query | None], asked: str) -> Answer | Refusal | Outdated:
    """Read dataset by dataset until the answer is full. Each dataset charges for its own records."""
    found_parts: list[tuple[Metadata, reads.Found]] = []
    records = 0
    parts: list[Part] = []
    headers: Mapping[str, str] = {}
    error = ""
    shown = next(query for query in queries if query is not None)
    deadline = time.monotonic() + SECONDS_MAX
    for number, (call, query) in enumerate(zip(calls, queries, strict=True)):
        if query is None:
            continue
        query = replace(query, records_max=RECORDS_MAX - records)
        if time.monotonic() > deadline:
            error = _failure(call, "the batch took too long")
            break
        payment.begun(call, call.metadata, query)
        try:
            found = await reads.read(call.metadata, query)
        except Busy as busy:
            if not number:
                raise
            error = _failure(call, busy.refusal.detail.rstrip("."))
            parts += [Part(call.metadata, 0, query.asks_values)] if busy.has_begun else []
            break
        except psycopg.errors.QueryCanceled:
            error = _failure(call, "reading it took too long")
            parts.append(Part(call.metadata, 0, query.asks_values))
            break
        if found.version != call.metadata.version:
            return OUTDATED
        found_parts.append((call.metadata, found))
        records += len(found.texts)
        parts.append(Part(call.metadata, len(found.texts), query.asks_values, found.count))
        if found.next:
            place = replace(found.next, key_number=found.next.key_number + number * keys_of(query))
            headers = paging_headers(calls[0], write_cursor(place, asked, key=_cursor_key(calls)))
            break
    payment.have_read(calls[0], *parts)
    body = await rendered(shown, found_parts, [call.metadata for call in calls], failure=error)
    return Answer(
        body, content_type(shown), records=sum(part.records for part in parts), headers=dict(headers),
        parts=tuple(parts),
    )  # fmt: skip


def _failure(call: Call, reason: str) -> str:
    """The last element of an incomplete answer."""
    return f"{call.target.workspace}/{call.target.name}: {reason}; it and what follows is missing"
