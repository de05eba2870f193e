"""OpenAPI 3.1 documents: of the whole API, and of one dataset limited to a token's permissions. Pure.

    whole(public_url) -> dict
    of_dataset(described, actions, is_secret, public_url) -> dict

Built from the operations beside the routes, the table of parameters and the table of refusals.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from apperate.http.parameters import Parameter
from apperate.kernel.version import VERSION
from datasets.openapi import schemas as openapi_schemas
from datasets.openapi.operation import ANY, PUBLIC, SECRET, Operation
from datasets.openapi.operations import OPERATIONS, TAGS
from datasets.openapi.refusals import Refusals, named_headers
from datasets.openapi.schemas import ANSWERED, EVERY, HEADERS, SCHEMAS, TEXT, Json, record_schemas
from datasets.openapi.token_schemas import TOKEN_SCHEMAS
from datasets.query import parameters
from datasets.records.schema import Schema

OPENAPI_VERSION = "3.1.0"
SECURITY: Mapping[str, Json] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer pk_…`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "query": {"type": "apiKey", "in": "query", "name": "token"},
}
ABOUT = """Records of datasets, read, written and deleted with tokens that say who may do what.

Send the token in one of three places: `Authorization: Bearer`, `X-API-Key` or `?token=`. A success is \
`200`; a refusal is a problem document whose `code` is stable. `HEAD` is answered like `GET`, without a body \
and free; `OPTIONS` is for anyone; other methods of a path are `405 method-not-allowed` with `Allow`. \
`/stable`, `/latest` and `/beta` are the same as `/v1`, and a slash at the end is ignored.

Unknown query parameters are ignored, and `undefined`, `null` and empty values count as absent. """ + (
    "Accepted and without effect: " + ", ".join(sorted(parameters.IGNORED - {"token"})) + "."
)
SEGMENTS: Mapping[str, Json] = {
    "workspace": {
        "description": "The id of the workspace, in any case.",
        "schema": TEXT | {"pattern": openapi_schemas.ID_PATTERN},
        "example": "DEMO",
    },
    "dataset": {
        "description": "The id of the dataset, in any case; reads take several, separated by commas.",
        "schema": TEXT | {"minLength": 1},
        "example": "STOCKS",
    },
    "key": {"description": "A key; reads take several, separated by commas.", "example": "AAPL"},
    "subkey": {"description": "A subkey."},
    "date": {"description": "The day of a record.", "example": "2024-02-29"},
    "jobId": {
        "description": "The `jobId` of an upload.",
        "schema": TEXT | {"pattern": "^[0-9a-fA-F]{32}$"},
    },
    "tokenId": {"description": "The `id` of a token, not its value.", "example": "tok_8f3k2m9q"},
    "type": {
        "description": "What was used.",
        "schema": TEXT
        | {"enum": ["messages", "rules", "rule-records", "alerts", "alert-records"]},
    },
}  # fmt: skip
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "An ETag: an unchanged answer is 304 without a body.",
    "schema": {"type": "string"},
}

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Sent again within 24 hours it is answered as the first time, and changes nothing.",
    "schema": {"type": "string", "maxLength": 255, "pattern": "^[!-~]*$"},
}


@dataclass(frozen=True, slots=True)
class Described:
    """A dataset as its document describes it; `inline` are the platform's properties in its records."""

    workspace: str
    name: str
    schema: Schema
    title: str = ""
    description: str = ""
    inline: tuple[str, ...] = ()
    credits_per_record: int = 0


def whole(public_url: str, operations: Sequence[Operation] = OPERATIONS) -> Json:
    """The document of every operation."""
    schemas = {
        **SCHEMAS,
        **TOKEN_SCHEMAS,
        "NewRecord": {"type": "object", "description": "A record to be written."},
    }
    return _document("Apperate", ABOUT, public_url, operations, schemas)


def of_dataset(described: Described, actions: Iterable[str], is_secret: bool, public_url: str) -> Json:
    """The document of one dataset: the operations that `actions` and the kind of token allow."""
    may = {ANY, *actions} | ({SECRET} if is_secret else set())
    schema = described.schema
    own = [
        _placed(operation, described)
        for operation in OPERATIONS
        if operation.who in may and not operation.is_old_name and _concerns(operation, schema)
    ]
    document = _document(
        described.title or f"{described.workspace}/{described.name}",
        "\n\n".join(filter(None, (described.description, _about_index(described), ABOUT))),
        public_url,
        own,
        {**SCHEMAS, **record_schemas(schema, described.inline)},
    )
    if dates := list(schema.date_names):
        named = document["components"]["parameters"]["dateField"]
        named |= {"schema": TEXT | {"enum": dates}, "example": dates[0]}
    return document


def _concerns(operation: Operation, schema: Schema) -> bool:
    """Whether an operation applies to the dataset's own paths: without a subkey none can name one."""
    if "{subkey}" in operation.path and schema.subkey is None:
        return False
    is_of_jobs = operation.path.startswith("/jobs/")
    return "{workspace}/{dataset}" in operation.path or is_of_jobs


def _placed(operation: Operation, described: Described) -> Operation:
    """The operation on the dataset's own path, with the refusals that its placeholders imply."""
    path = operation.path.replace("{workspace}", described.workspace).replace("{dataset}", described.name)
    return replace(operation, path=path, more_codes=operation.codes)


def _about_index(described: Described) -> str:
    """How the dataset's records are looked up, and what reading them costs."""
    schema = described.schema
    parts = [
        f"The key of a record is `{schema.key}`."
        if schema.key
        else "The key of a record is generated: a hash of its values.",
        f"Its subkey is `{schema.subkey}`." if schema.subkey else "",
        f"Its date is `{schema.date}`."
        if schema.date
        else "Its date is the UTC day on which it was ingested.",
        f"Reading a record costs {described.credits_per_record:,} in credits."
        if described.credits_per_record
        else "Reading is free.",
    ]
    return " ".join(filter(None, parts))


# --- parts of documents ---------------------------------------------------------------------------


def _document(
    title: str, about: str, public_url: str, operations: Sequence[Operation], schemas: Mapping[str, Json]
) -> Json:
    refusals = Refusals()
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, refusals)
    used = {operation.tag for operation in operations}
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": title,
            "version": VERSION,
            "description": about,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": f"{public_url}/v1"}],
        "tags": [{"name": tag} for tag in TAGS if tag in used],
        "security": [{name: []} for name in SECURITY],
        "paths": paths,
        "components": {
            "schemas": dict(schemas),
            "parameters": _parameters(operations),
            "headers": dict(HEADERS),
            "responses": refusals.responses,
            "securitySchemes": dict(SECURITY),
        },
    }


def _operation(operation: Operation, refusals: Refusals) -> Json:
    words = [operation.description, f"For: {operation.who}." if operation.who != PUBLIC else "For anyone."]
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": " ".join(filter(None, words)),
        "tags": [operation.tag],
        "responses": {"200": _success(operation), **refusals.of(operation)},
    }
    if operation.is_read:
        described["responses"]["304"] = {
            "description": "Unchanged since the answer whose ETag was sent; free.",
            "headers": named_headers(*_success_headers(operation)),
        }
    if given := [*_segments(operation), *_query(operation), *_sent_headers(operation)]:
        described["parameters"] = given
    if operation.body:
        content = {kind: {"schema": dict(schema)} for kind, schema in operation.body.items()}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    if operation.who == PUBLIC:
        described["security"] = []
    if operation.is_old_name:
        described["deprecated"] = True
    return described


def _segments(operation: Operation) -> list[Json]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "schema": TEXT | {"minLength": 1}} | SEGMENTS[name]
        for name in names
    ]


def _query(operation: Operation) -> list[Json]:
    found = parameters.of(operation.parameters) if operation.parameters else {}
    return [{"$ref": f"#/components/parameters/{name}"} for name in found]


def _sent_headers(operation: Operation) -> list[Json]:
    """The headers that a request may carry besides the token."""
    return [
        *([IF_NONE_MATCH] if operation.is_read else []),
        *([IDEMPOTENCY_KEY] if operation.takes_key else []),
    ]


def _parameters(operations: Sequence[Operation]) -> dict[str, Json]:
    """The rows of the parameter table that operations refer to, by name."""
    found: dict[str, Json] = {}
    for operation in operations:
        for name, one in parameters.of(operation.parameters).items() if operation.parameters else ():
            found[name] = _parameter(one, is_required=name in operation.required)
    return found


def _parameter(found: Parameter, *, is_required: bool) -> Json:
    """A row of the parameter table in OpenAPI form."""
    return {
        "name": found.name,
        "in": "query",
        "required": is_required,
        "description": f"{found.summary[:1].upper()}{found.summary[1:]}. Accepted: {found.needed}.",
        "schema": dict(found.schema),
        "example": example_of(found),
    }


def example_of(found: Parameter) -> Any:
    """The example of a parameter, with the type its schema says."""
    match found.schema["type"]:
        case "integer":
            return int(found.example)
        case "boolean":
            return found.example == "true"
        case _:
            return found.example


def _success_headers(operation: Operation) -> tuple[str, ...]:
    if operation.who == PUBLIC:
        return (*EVERY, *operation.headers)
    return (*ANSWERED, *(("ETag",) if operation.is_read else ()), *operation.headers)


def _success(operation: Operation) -> Json:
    return {
        "description": operation.summary,
        "headers": named_headers(*_success_headers(operation)),
        "content": {kind: {"schema": dict(schema)} for kind, schema in operation.answer.items()},
    }
