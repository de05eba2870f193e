"""The record-reading API. The steps before and after a view are in tokens.gate.endpoint."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from apperate.database import shares
from apperate.http import delivery
from apperate.kernel.json_text import dumps
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.answers import parquet_output, renderers
from datasets.api.admission import Call, data_endpoint
from datasets.query import parsing
from datasets.query.cursors import write_cursor
from datasets.query.parsing import Query
from datasets.records import system_properties
from datasets.records.schema import PropertyType
from datasets.storage import exports, query_marks, reads
from datasets.storage.catalog import Metadata
from tokens.gate import payment
from tokens.gate.answers import paging_headers, pairs
from tokens.gate.calls import OUTDATED, Answer, Outdated, Part
from tokens.gate.endpoint import take_place
from tokens.rules.permissions import CORE, PREMIUM, Action

SHORT_CHARACTERS = 100_000
SHORT_QUESTION_CHARS = 500
MANY = 100  # records, each of which gets more properties
SYSTEM_ERROR = "_system_error"


@data_endpoint(Action.READ)
async def read_data(
    call: Call, key: str | None = None, subkey: str | None = None
) -> Answer | Refusal | Outdated:
    """GET /v1/data/WS/ID[/KEY[/SUBKEY]]: the records a query selects, in one database round trip."""
    dataset = call.metadata
    query = await parse_in_turn(call, dataset, key, subkey)
    if isinstance(query, Refusal):
        return query
    if query.schema_only:
        texts, columns = renderers.describe_columns(dataset.schema)
        if query.format == "parquet":
            return invalid_value("schema", "true", "another format: a Parquet file has its schema inside")
        return Answer(
            renderers.render(query.format, texts, columns),
            renderers.CONTENT_TYPES[query.format],
            is_free=True,
        )
    if no := await payment.ask(call, [(dataset, query)], records_max=query.records_at_most):
        return no
    if query.exports:
        return await export(call, dataset, query)
    await take_place(call, records_at_most=query.records_at_most)
    mark = None
    if query.query_id is not None:
        mark = await query_marks.begin(call.token.token_id, dataset.id, query.query_id, now=call.now)
        query = replace(query, updated_from=mark.updated_from)
    payment.begun(call, dataset, query)
    found = await reads.read(dataset, query)
    if found.version != dataset.version:
        return OUTDATED
    part = Part(dataset, len(found.texts), query.asks_values, found.count)
    payment.have_read(call, part)
    body = await rendered(query, [(dataset, found)], [dataset])
    headers: dict[str, str] = {}
    if found.next:
        cursor = write_cursor(found.next, query.question, key=payment.cursor_key(dataset))
        headers = paging_headers(call, cursor)
    settled = None
    if mark is not None:
        settled = partial(query_marks.settle, mark, is_first=query.after is None, is_last=found.next is None)
    return Answer(body, content_type(query), parts=(part,), headers=headers, settled=settled)


async def export(call: Call, dataset: Metadata, query: Query) -> Answer | Refusal | Outdated:
    """All matching records as a file, sent with its length."""
    encoding = delivery.encoding_for(call.request.headers.get("Accept-Encoding", ""))
    if query.format == "parquet":
        encoding = ""  # The format compresses by itself.
    form = exports.Form(
        columns=column_types([dataset], query),
        keeps=query.filter is not None,
        encoding=encoding,
        texts_of=lambda texts, systems: texts_of(
            dataset, query, reads.Found(None, texts, systems if query.reads_system else [])
        ),
    )
    spool = partial(exports.spool, dataset, query, form, token_id=call.token.token_id)
    async with shares.EXPORTS.place(shares.asker.get()):
        payment.begun(call, dataset, query)
        made = await asyncio.get_running_loop().run_in_executor(exports.threads, spool)
    if isinstance(made, Refusal):
        if made.code == "rate-limited":  # It never started.
            call.request.bill.parts = ()
        return made
    if made.file is None:
        return OUTDATED
    name = f"{dataset.name}.{renderers.EXTENSIONS[query.format]}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if encoding:
        headers["Content-Encoding"] = encoding
    return Answer(
        b"", content_type(query), parts=(Part(dataset, made.records, query.asks_values),), headers=headers,
        file=made.file, file_bytes=made.size_bytes,
    )  # fmt: skip


async def parse_in_turn(
    call: Call, dataset: Metadata, key: str | None, subkey: str | None, *, without: Sequence[str] = ()
) -> Query | Refusal:
    """parse(), but long conditions are parsed one at a time, so that others get their turn in between."""
    given = call.request.GET
    length = len(key or "") + len(given.get("where", "")) + len(given.get("subattribute", ""))
    if length <= SHORT_QUESTION_CHARS:
        return parse(call, dataset, key, subkey, without=without)
    async with shares.PARSING.place(shares.asker.get()):
        await asyncio.sleep(0)
        return parse(call, dataset, key, subkey, without=without)


def parse(
    call: Call, dataset: Metadata, key: str | None, subkey: str | None, *, without: Sequence[str] = ()
) -> Query | Refusal:
    """The request's query on a dataset; the parameters in `without` are left out."""
    return parsing.parse(
        [(name, value) for name, value in pairs(call.request.GET) if name not in without],
        dataset.schema,
        now=call.now,
        path_key=key,
        path_subkey=subkey,
        name=f"{dataset.workspace}/{dataset.name}",
        answer_format=renderers.accepted(call.request.headers.get("Accept", "")),
        more_names=inline_names(dataset),
        cursor_key=payment.cursor_key(dataset),
    )


def inline_names(dataset: Metadata) -> tuple[str, ...]:
    """The platform's properties in records of CORE and PREMIUM; names in the schema take precedence."""
    if dataset.workspace not in (CORE, PREMIUM):
        return ()
    return tuple(name for name in system_properties.INLINE if dataset.schema.get(name) is None)


def texts_of(dataset: Metadata, query: Query, found: reads.Found) -> list[str]:
    """The records of an answer, including the platform's properties where requested."""
    if not found.systems:
        return found.texts
    return system_properties.added(
        found.texts,
        found.systems,
        dataset=dataset.name,
        inline=inline_names(dataset),
        nested=query.with_system,
    )


def column_types(datasets: Sequence[Metadata], query: Query) -> dict[str, PropertyType]:
    """The properties an answer may have, in order, each once, with its type across all datasets."""
    found: dict[str, PropertyType] = {}
    for dataset in datasets:
        kinds = {known.name: known.type for known in dataset.schema.properties}
        kinds |= {name: system_properties.TYPES[name] for name in inline_names(dataset)}
        for name, kind in kinds.items():
            found[name] = kind if found.get(name, kind) is kind else PropertyType.ANY
    if query.filter is not None:
        found = {name: found[name] for name in query.filter}
    if query.with_system:
        found[system_properties.SYSTEM] = PropertyType.OBJECT
    return found


async def rendered(
    query: Query,
    parts: Sequence[tuple[Metadata, reads.Found]],
    datasets: Sequence[Metadata],
    *,
    failure: str = "",
) -> bytes:
    """The body of an answer; long ones are rendered off the event loop, so that they delay nobody.

    `failure` says why records are missing, in an extra last element that `filter` never drops.
    """
    work = partial(_body, query, parts, datasets, failure)
    is_long = sum(len(text) for _, found in parts for text in found.texts) > SHORT_CHARACTERS
    is_long = is_long or query.format == "parquet" or sum(len(found.systems) for _, found in parts) > MANY
    return await shares.in_body_thread(work) if is_long else work()


def _body(
    query: Query,
    parts: Sequence[tuple[Metadata, reads.Found]],
    datasets: Sequence[Metadata],
    failure: str,
) -> bytes:
    texts = [text for dataset, found in parts for text in texts_of(dataset, query, found)]
    columns = column_types(datasets, query)
    keeps = tuple(columns) if query.filter is not None else None
    if failure:
        texts, keeps = [*renderers.keep(texts, keeps), dumps({SYSTEM_ERROR: failure})], None
        columns[SYSTEM_ERROR] = PropertyType.STRING
    if query.format == "parquet":
        return parquet_output.parquet_bytes(texts, columns)
    body = renderers.render(query.format, texts, tuple(columns), keeps)
    return renderers.jsonp(body, query.callback) if query.callback else body


def content_type(query: Query) -> str:
    return renderers.JSONP if query.callback else renderers.CONTENT_TYPES[query.format]
