"""The API on records: read, write, delete, ingest. What stands around a view is in gate.py."""

import asyncio
from typing import Any

import simplejson
from django.conf import settings

from apperate.data_plane import in_thread
from apperate.problems import JSON
from apperate.refusals import Refusal
from datasets import jobs, parameters, renderers, store, writing
from datasets import query as queries
from datasets.gate import OUTDATED, Answer, Call, Outdated, data_endpoint
from tokens.permissions import Action

ANSWER_CHARACTERS_MAX = 64_000_000
SHORT_CHARACTERS = 100_000


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
    query = queries.parse(
        pairs(call.request.GET), dataset.schema, now=call.now, path_key=key, path_subkey=subkey
    )
    if isinstance(query, Refusal):
        return query
    content_type = renderers.CONTENT_TYPES[query.format]
    if query.schema_only:
        texts, columns = renderers.describe_columns(dataset.schema)
        return Answer(renderers.render(query.format, texts, columns), content_type, is_free=True)
    found = await store.read(dataset, query)
    if found.version != dataset.version:
        return OUTDATED
    characters = sum(map(len, found.texts))
    if characters > ANSWER_CHARACTERS_MAX:
        return Refusal(
            "invalid-values",
            "The answer would be too long. Ask for fewer records, or with filter for fewer properties.",
            check="query",
            received=f"{len(found.texts):,} records with {characters:,} characters",
            needed=f"at most {ANSWER_CHARACTERS_MAX:,} characters in one answer",
        )
    render = (query.format, found.texts, dataset.schema.names, query.filter)
    if characters > SHORT_CHARACTERS:  # Long work must not keep other requests waiting.
        body = await asyncio.to_thread(renderers.render, *render)
    else:
        body = renderers.render(*render)
    return Answer(body, content_type, records=len(found.texts))


@data_endpoint(Action.WRITE)
async def write_records(call: Call) -> Answer | Refusal:
    """POST /v1/record/WS/ID: a JSON object or array of objects, all stored or none."""
    body = await call.request.read_body(bytes_max=settings.RECORD_BODY_BYTES_MAX)
    if isinstance(body, Refusal):
        return body
    values = parameters.values(pairs(call.request.GET), "write")
    if isinstance(values, Refusal):
        return values
    count = await in_thread(writing.write_records)(
        dataset_id=call.metadata.id, body=body, replaces=writing.replaces_duplicates(values), now=call.now
    )
    if isinstance(count, Refusal):
        return count
    return said({"success": True, "message": f"wrote {count} messages"}, records=count, is_free=True)


@data_endpoint(Action.DELETE)
async def delete_data(
    call: Call, key: str | None = None, subkey: str | None = None, date: str | None = None
) -> Answer | Refusal:
    """DELETE /v1/data/WS/ID/KEY[/SUBKEY[/DATE]]: to the trash, from where they come back for 24 h."""
    selection = writing.parse_selection(pairs(call.request.GET), key=key, subkey=subkey, date=date)
    if isinstance(selection, Refusal):
        return selection
    count = await in_thread(writing.delete_records)(
        dataset_id=call.metadata.id, selection=selection, token_id=call.token.token_id, now=call.now
    )
    if isinstance(count, Refusal):
        return count
    return said({"success": True, "message": f"deleted {count} records"}, records=count, is_free=True)


@data_endpoint(Action.WRITE)
async def ingest_data(call: Call) -> Answer | Refusal:
    """POST /v1/data/WS/ID: a CSV or JSON file becomes an ingestion job; `wait=true` waits for its end."""
    file = await call.request.spool(bytes_max=settings.UPLOAD_BYTES_MAX)
    if isinstance(file, Refusal):
        return file
    with file:
        options = writing.parse_ingest_options(pairs(call.request.GET))
        if isinstance(options, Refusal):
            return options
        job = await in_thread(jobs.create)(
            dataset_id=call.metadata.id,
            file=file,
            options=options,
            token_id=call.token.token_id,
            now=call.now,
        )
    if isinstance(job, Refusal):
        return job
    if options.waits and (answer := await jobs.wait_for(job)):
        return answer
    return said(jobs.created_document(job, workspace=call.target.workspace, dataset=call.target.name))
