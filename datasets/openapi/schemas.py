"""The bodies and headers of the API as JSON Schema, for the OpenAPI documents. Pure.

SCHEMAS, HEADERS                         included in every document
record_schemas(schema, inline) -> dict   NewRecord and Record of one dataset
ref(name) -> dict                        a reference to one of SCHEMAS
"""

from collections.abc import Mapping, Sequence
from typing import Any

from apperate.kernel.refusals import REFUSALS
from datasets.records import system_properties
from datasets.records.schema import PropertyType, Schema

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
COUNT: Json = {"type": "integer", "minimum": 0}
MOMENT: Json = {"type": "integer", "description": "Milliseconds since 1970."}
ID_PATTERN = "^[A-Za-z0-9_]{1,63}$"
JOB_KINDS = ("INGEST", "DELETE", "RESTORE")
JOB_STATES = ("CREATED", "VALIDATING", "PROCESSING", "INGESTED", "ERROR", "CANCELLED")
ROLES = {
    "key": "the key of the index",
    "subkey": "the subkey of the index",
    "date": "the date of the index",
}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Mapping[str, Any]) -> Json:
    return {"type": "array", "items": dict(items)}


def record(properties: Mapping[str, Any], *optional: str, closed: bool = True, **words: Any) -> Json:
    """An object whose properties are all required, except those named optional."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required} | (
        {"additionalProperties": False} if closed else {}
    ) | words  # fmt: skip


def nullable(schema: Mapping[str, Any]) -> Json:
    return {**schema, "type": [schema["type"], "null"]}


SUCCESS = record({"success": {"const": True}, "message": TEXT})
PROBLEM = record(
    {
        "type": TEXT | {"description": "Where this code is explained."},
        "title": TEXT | {"description": "The sentence that older clients compare with."},
        "status": {"type": "integer"},
        "detail": TEXT | {"description": "One sentence about this request."},
        "code": TEXT | {"enum": list(REFUSALS)},
        "check": TEXT | {"description": "The step that refused."},
        "received": TEXT,
        "needed": TEXT,
        "token": TEXT | {"description": "The public id of the token, never its value."},
        "errors": array({"type": "object"}) | {"description": "Single faults, at most 100."},
        "request_id": TEXT,
        "docs": TEXT,
    },
    "check", "received", "needed", "token", "errors",
    description="Why a request was refused (RFC 9457). Compare `code`: it is stable.",
)  # fmt: skip
MAPPING = {
    "type": "object",
    "properties": {role: nullable(TEXT) for role in ROLES},
    "additionalProperties": False,
    "description": "Which properties are the unique index.",
}
TEXTS: Json = {"title": TEXT, "description": TEXT, "email": TEXT, "source": TEXT}
JSON_SCHEMA = {"type": "object", "description": "A JSON Schema object: `type`, `properties`, `required`."}
DATASET = record(
    {
        "datasetId": TEXT,
        **TEXTS,
        "schema": JSON_SCHEMA,
        "columnMapping": MAPPING,
        "smartLinkAttributes": array({}),
        "parentDatasetId": {"type": "null"},
        "records": nullable(COUNT),
        "keys": nullable(COUNT),
        "date": nullable(MOMENT),
        "updated": MOMENT,
    }
)
CHANGES = {
    "datasetId": TEXT | {"pattern": ID_PATTERN},
    **TEXTS,
    "schema": JSON_SCHEMA,
    "columnMapping": MAPPING,
    "smartLinkAttributes": array({}),
}
JOB = record(
    {
        "jobId": TEXT,
        "datasetId": TEXT,
        "kind": TEXT | {"enum": list(JOB_KINDS)},
        "status": TEXT | {"enum": list(JOB_STATES)},
        "lastGoodStatus": TEXT | {"enum": list(JOB_STATES)},
        "progress": {"type": "number", "minimum": 0, "maximum": 1},
        "sizeBytes": COUNT,
        "rowsProcessed": COUNT,
        "bytesProcessed": COUNT,
        "lines": COUNT,
        "recordsIngested": COUNT,
        "recordsDeleted": COUNT,
        "recordsRestored": COUNT,
        "duplicates": COUNT,
        "invalid": COUNT,
        "message": TEXT,
        "invalidRecordsLog": TEXT,
        "created": MOMENT,
        "started": nullable(MOMENT),
        "ended": nullable(MOMENT),
        "cancelRequested": nullable(MOMENT),
    }
)
CREDITS_BY = {"type": "object", "additionalProperties": COUNT}
USAGE = {
    "dailyUsage": CREDITS_BY,
    "monthlyUsage": COUNT,
    "monthlyPayAsYouGo": COUNT,
    "tokenUsage": CREDITS_BY,
    "keyUsage": CREDITS_BY,
}
COLUMN = record(
    {
        "name": TEXT,
        "type": TEXT | {"enum": [kind.value for kind in PropertyType]},
        "nullable": FLAG,
        "index": {"enum": [*ROLES, None]},
        "description": TEXT,
    }
)
SCHEMAS: Mapping[str, Json] = {
    "Problem": PROBLEM,
    "Record": {"type": "object", "description": "A record of a dataset, with its schema's properties."},
    "Column": COLUMN | {"description": "A property of a dataset, as schema=true tells it."},
    "SystemError": record(
        {"_system_error": TEXT}, description="The last element of a batch that is not whole."
    ),
    "Success": SUCCESS,
    "DatasetSuccess": record({"success": {"const": True}, "message": TEXT, "datasetId": TEXT}),
    "JobSuccess": record(
        {"success": {"const": True}, "message": TEXT, "jobId": TEXT, "jobUrl": TEXT}, "jobUrl"
    ),
    "JobCancelled": record(
        {"success": {"const": True}, "message": TEXT, "jobId": TEXT, "status": {"enum": list(JOB_STATES)}}
    ),
    "Dataset": DATASET,
    "NewDataset": record(
        {"dataset": record(CHANGES, *(set(CHANGES) - {"datasetId", "schema"}), closed=False)}, closed=False
    ),
    "DatasetChanges": record({"dataset": record(CHANGES, *CHANGES, closed=False)}, closed=False),
    "InventoryItem": record(
        {
            "id": TEXT,
            "description": TEXT,
            "schema": JSON_SCHEMA,
            "weight": COUNT | {"description": "Credits a record."},
            "created": MOMENT,
            "lastUpdated": MOMENT,
        }
    ),
    "Job": JOB,
    "NewJob": record({"datasetId": TEXT, "data": {"anyOf": [TEXT, array({"type": "object"})]}}, closed=False),
    "Account": record(
        {
            "payAsYouGoEnabled": FLAG,
            "overagesEnabled": FLAG,
            "effectiveDate": MOMENT,
            "endDateEffective": {"type": "null"},
            "subscriptionTermType": TEXT,
            "tierName": TEXT,
            "messageLimit": COUNT,
            "creditLimit": COUNT,
            "messagesUsed": COUNT,
            "creditsUsed": COUNT,
            "circuitBreaker": nullable(COUNT),
        }
    ),
    "Usage": record(USAGE),
    "AccountUsage": record({"messages": ref("Usage"), "rules": array({}), **USAGE}),
    "LogLine": record({"timestamp": MOMENT, "message": TEXT, "severity": TEXT, "level": TEXT}),
    "DescribedSchema": record(
        {
            "type": {"const": "object"},
            "properties": {"type": "object"},
            "required": array(TEXT),
            "columnMapping": MAPPING,
        }
    ),
    "Status": record({"status": {"const": "up"}, "version": TEXT, "time": MOMENT}),
    "TokenInBody": {
        "type": "object",
        "properties": {"token": TEXT | {"description": "The secret token, when it is nowhere else."}},
    },
}


# --- headers --------------------------------------------------------------------------------------


def _header(description: str, schema: Mapping[str, Any], *, always: bool = True) -> Json:
    return {"description": description, "required": always, "schema": dict(schema)}


EVERY = ("X-Request-Id", "X-Content-Type-Options", "Access-Control-Allow-Origin",
         "Access-Control-Expose-Headers")  # fmt: skip
RATE = ("RateLimit", "RateLimit-Policy")
CREDITS = ("iexcloud-credits-used", "iexcloud-premium-credits-used", "iexcloud-messages-used",
           "iexcloud-premium-messages-used", "Apperate-Credits-Remaining", *RATE)  # fmt: skip
ANSWERED = (*EVERY, *CREDITS, "Cache-Control", "Vary", "Content-Encoding")
PAGED = ("Apperate-Next-Cursor", "Link", "Content-Disposition")
HEADERS: Mapping[str, Json] = {
    "X-Request-Id": _header("Names the request in the log.", TEXT),
    "X-Content-Type-Options": _header("nosniff", {"const": "nosniff"}),
    "Access-Control-Allow-Origin": _header("`*`, or for a token with domain rules the page's origin.", TEXT),
    "Access-Control-Expose-Headers": _header("Which headers a script may read.", TEXT),
    **{
        name: _header("Credits that this answer cost.", COUNT)
        for name in CREDITS
        if name.startswith("iexcloud")
    },
    "Apperate-Credits-Remaining": _header(
        "CORE credits a limited token has left this month.", COUNT, always=False
    ),
    "RateLimit": _header("What a throttled token may still send.", TEXT, always=False),
    "RateLimit-Policy": _header("The policy of a throttled token.", TEXT, always=False),
    "Cache-Control": _header("How long the answer may be kept.", TEXT),
    "Vary": _header("What else the answer depends on.", TEXT),
    "Content-Encoding": _header(
        "How the body is compressed.", TEXT | {"enum": ["zstd", "gzip"]}, always=False
    ),
    "Content-Disposition": _header("The name of the file, of exports and logs.", TEXT, always=False),
    "ETag": _header("Send it back in If-None-Match: an unchanged answer is 304, free.", TEXT, always=False),
    "Apperate-Next-Cursor": _header("The value of `cursor` for the next page.", TEXT, always=False),
    "Apperate-Unconfirmed-Workers": _header(
        "How many server processes do not follow this change yet; within 5 seconds they do, or refuse.",
        COUNT, always=False,
    ),
    "Link": _header('`<…>; rel="next"`: the address of the next page.', TEXT, always=False),
    "Retry-After": _header(
        "Seconds until it is worth asking again.", COUNT | {"minimum": 1}, always=False
    ),
    "WWW-Authenticate": _header("How a token may be sent.", TEXT),
}  # fmt: skip


# --- the records of one dataset -------------------------------------------------------------------


def record_schemas(schema: Schema, inline: Sequence[str]) -> dict[str, Json]:
    """What is written into a dataset (NewRecord), and what is read from it (Record).

    A record that is read may lack properties: those it was stored without, and those that `filter` drops.
    """
    roles = {name: role for role, name in schema.column_mapping().items()}
    properties = {}
    for found in schema.properties:
        described = found.to_json()
        role = roles.get(found.name)
        words = [found.description, f"It is {ROLES[role]}." if role else ""]
        described["description"] = " ".join(filter(None, words)) or found.name
        if role:
            described["x-apperate-index"] = role
        properties[found.name] = (
            nullable(described) if found.nullable and "type" in described else dict(described)
        )
    required = [found.name for found in schema.properties if not found.nullable]
    system = {name: {"type": system_properties.TYPES[name].value} for name in system_properties.INLINE}
    more = {name: system[name] for name in inline}
    answered = properties | more | {system_properties.SYSTEM: record(system)}
    closed = {"type": "object", "additionalProperties": False}
    return {
        "NewRecord": closed | {"properties": properties, "required": required},
        "Record": closed | {"properties": answered},
    }
