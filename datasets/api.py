"""The API on records: reading them. What stands around a view is in gate.py."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import simplejson

from apperate.data_plane import raw_path_of
from apperate.problems import JSON
from apperate.refusals import Refusal
from datasets import query as queries
from datasets import reads, renderers, system_properties
from datasets.catalog import Metadata
from datasets.cursors import write_cursor
from datasets.gate import OUTDATED, Answer, Call, Outdated, data_endpoint
from datasets.json_text import dumps
from datasets.query import Query
from tokens.permissions import CORE, PREMIUM, Action

SHORT_CHARACTERS = 100_000
LINK_CHARS_MAX = 8_000
SYSTEM_ERROR = "_system_error"


def said(document: dict[str, Any], **facts: Any) -> Answer:
    """An Answer with a JSON document."""
    return Answer(simplejson.dumps(document).encode(), JSON, **facts)


def pairs(parameters: Any) -> list[tuple[str, str]]:
    """The query string's names and values, repeated names included."""
    return [(name, value) for name, values in parameters.lists() for value in values]


@data_endpoint(Action.READ)
async def read_data(
    call: Call, key: str | None = None, subkey: str | None = None
) -> Answer | Refusal | Outdated:
    """GET /v1/data/WS/ID[/KEY[/SUBKEY]]: the records a query asks for, one database round trip."""
    dataset = call.metadata
    query = parse(call, dataset, key, subkey)
    if isinstance(query, Refusal):
        return query
    if query.schema_only:
        texts, columns = renderers.describe_columns(dataset.schema)
        return Answer(
            renderers.render(query.format, texts, columns),
            renderers.CONTENT_TYPES[query.format],
            is_free=True,
        )
    found = await reads.read(dataset, query)
    if found.version != dataset.version:
        return OUTDATED
    body = await rendered(query, texts_of(dataset, query, found), columns_of([dataset], query))
    headers = paging_headers(call, write_cursor(found.next, query.question)) if found.next else {}
    return Answer(body, content_type(query), records=len(found.texts), headers=headers)


def parse(
    call: Call, dataset: Metadata, key: str | None, subkey: str | None, *, without: Sequence[str] = ()
) -> Query | Refusal:
    """What the request asks of a dataset; the parameters of `without` are left out."""
    return queries.parse(
        [(name, value) for name, value in pairs(call.request.GET) if name not in without],
        dataset.schema,
        now=call.now,
        path_key=key,
        path_subkey=subkey,
        name=f"{dataset.workspace}/{dataset.name}",
        answer_format=renderers.accepted(call.request.headers.get("Accept", "")),
        more_names=inline_names(dataset),
    )


def inline_names(dataset: Metadata) -> tuple[str, ...]:
    """The platform's properties that records of CORE and PREMIUM carry; a schema's own names come first."""
    if dataset.workspace not in (CORE, PREMIUM):
        return ()
    return tuple(name for name in system_properties.INLINE if dataset.schema.get(name) is None)


def texts_of(dataset: Metadata, query: Query, found: reads.Found) -> list[str]:
    """The records of an answer, the platform's properties among them where they are asked for."""
    if not found.systems:
        return found.texts
    return system_properties.added(
        found.texts,
        found.systems,
        dataset=dataset.name,
        inline=inline_names(dataset),
        nested=query.with_system,
    )


def columns_of(datasets: Sequence[Metadata], query: Query) -> tuple[str, ...]:
    """The names of the properties that an answer may have, in order, each once."""
    if query.filter is not None:
        names = list(query.filter)
    else:
        names = [name for found in datasets for name in (*found.schema.names, *inline_names(found))]
    if query.with_system:
        names.append(system_properties.SYSTEM)
    return tuple(dict.fromkeys(names))


async def rendered(query: Query, texts: Sequence[str], columns: Sequence[str], *, failure: str = "") -> bytes:
    """The body of an answer; long ones are made off the event loop, so that they keep nobody waiting.

    `failure` says why records are missing, in a last element of its own that no `filter` leaves out.
    """
    keeps = columns if query.filter is not None else None
    if failure:
        texts, keeps = [*renderers.keep(texts, keeps), dumps({SYSTEM_ERROR: failure})], None
        columns = (*columns, SYSTEM_ERROR)
    if sum(map(len, texts)) > SHORT_CHARACTERS:
        body = await asyncio.to_thread(renderers.render, query.format, texts, columns, keeps)
    else:
        body = renderers.render(query.format, texts, columns, keeps)
    return renderers.jsonp(body, query.callback) if query.callback else body


def content_type(query: Query) -> str:
    return renderers.JSONP if query.callback else renderers.CONTENT_TYPES[query.format]


def paging_headers(call: Call, cursor: str) -> dict[str, str]:
    """Where the next page of an answer is. The link names no token: clients send theirs again."""
    asked = [(name, value) for name, value in pairs(call.request.GET) if name not in ("token", "cursor")]
    # The path is repeated as it was sent; what could end the link is escaped.
    path = quote(raw_path_of(call.request.scope), safe="/%:@!$&'()*+,;=~-._")
    link = f'<{path}?{urlencode([*asked, ("cursor", cursor)])}>; rel="next"'
    headers = {"Apperate-Next-Cursor": cursor}
    return headers | {"Link": link} if len(link) <= LINK_CHARS_MAX else headers
