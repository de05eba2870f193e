"""OPERATIONS: every method and path of datasets/api/urls.py, as described in the OpenAPI documents. Pure.

A test compares this table with the routes: a route without a row fails, and so does a row without a route.
The parameters are those of datasets/query/parameters.py, the refusals those of apperate/kernel/refusals.py.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from datasets.answers import renderers
from datasets.openapi.operation import ANY, DELETE, PUBLIC, READ, SECRET, WRITE, Operation
from datasets.openapi.schemas import PAGED, TEXT, array, ref
from datasets.openapi.token_operations import TOKEN_OPERATIONS, TOKENS

JSON = "application/json"
CSV = "text/csv"
BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
READING, WRITING, DATASETS, JOBS, ACCOUNT, SERVICE = (
    "Reading records", "Writing records", "Datasets", "Ingestion jobs", "Account", "Service",
)  # fmt: skip
TAGS = (READING, WRITING, DATASETS, JOBS, TOKENS, ACCOUNT, SERVICE)


def bare(content_type: str) -> str:
    """A content type without its charset."""
    return content_type.split(";")[0]


# The rows of an answer; columns instead with schema=true; an incomplete batch ends with the reason.
RECORDS: dict[str, Any] = {
    JSON: {
        "anyOf": [array({"anyOf": [ref("Record"), ref("SystemError")]}), array(ref("Column"))],
    },
    **{bare(kind): TEXT for name, kind in renderers.CONTENT_TYPES.items() if name not in ("json", "parquet")},
    bare(renderers.CONTENT_TYPES["parquet"]): BINARY,
    bare(renderers.JSONP): TEXT,
}
FILE: dict[str, Any] = {
    CSV: TEXT,
    JSON: array({"type": "object"}),
    "application/x-ndjson": TEXT,
    "application/vnd.apache.parquet": BINARY,
    "application/gzip": BINARY,
}


def with_keys(first: Operation, *keys: str, **changes: Any) -> Iterator[Operation]:
    """The same operation on paths with one more segment each."""
    path, name = first.path, first.name
    for key in keys:
        path, name = f"{path}/{{{key}}}", f"{name}By{key.capitalize()}"
        yield replace(first, path=path, name=name, **changes)


def also_at(path: str, name: str, *operations: Operation) -> Iterator[Operation]:
    """Operations under an old name: the path before their keys differs."""
    first = operations[0]
    for operation in operations:
        yield replace(
            operation, path=path + operation.path.removeprefix(first.path),
            name=name + operation.name.removeprefix(first.name), is_old_name=True,
        )  # fmt: skip


READ_DATA = Operation(
    "GET", "/data/{workspace}/{dataset}", "readData", "Read records", READING, READ, RECORDS,
    "The latest record unless the parameters say otherwise. Commas separate several datasets or keys.",
    parameters="read", headers=PAGED, more_codes=("credits-exhausted",), is_read=True,
)  # fmt: skip
READS = (READ_DATA, *with_keys(READ_DATA, "key", "subkey"))
INGEST = Operation(
    "POST", "/data/{workspace}/{dataset}", "ingestData", "Send a file", WRITING, WRITE,
    {JSON: ref("JobSuccess")},
    "The body is a CSV, JSON, JSON-lines or Parquet file, plain or in gzip, and becomes an ingestion job. "
    "What it is, is read from its bytes. All valid lines are stored together, or none; invalid ones are "
    "listed.",
    parameters="ingest", body=FILE, more_codes=("storage-limit",),
)  # fmt: skip
WRITE_RECORDS = Operation(
    "POST", "/record/{workspace}/{dataset}", "writeRecords", "Write records", WRITING, WRITE,
    {JSON: ref("Success")}, "One record or an array of them, at most 10 MB: all stored or none.",
    parameters="write", body={JSON: {"anyOf": [array(ref("NewRecord")), ref("NewRecord")]}},
    more_codes=("plan-required", "storage-limit"),
)  # fmt: skip
DELETE_DATA = Operation(
    "DELETE", "/data/{workspace}/{dataset}", "deleteData", "Delete records", WRITING, DELETE,
    {JSON: {"anyOf": [ref("Success"), ref("JobSuccess")]}},
    "To the trash, from where they come back for 24 hours. A key has to be named. More than 100,000 records "
    "are deleted by a job.",
    parameters="delete",
)  # fmt: skip
DELETES = (DELETE_DATA, *with_keys(DELETE_DATA, "key", "subkey", "date"))
LIST = Operation(
    "GET", "/data", "listDatasets", "List datasets", DATASETS, ANY, {JSON: array(ref("Dataset"))},
    "Those the token may read: its workspace's, CORE's and PREMIUM's.", parameters="list", is_read=True,
)  # fmt: skip
INVENTORY = replace(
    LIST, path="/time-series", name="listTimeSeries", answer={JSON: array(ref("InventoryItem"))},
    description="The datasets of CORE.", is_old_name=True,
)  # fmt: skip
DESCRIBE = Operation(
    "GET", "/datasets/{workspace}/{dataset}", "readDataset", "Describe a dataset", DATASETS, READ,
    {JSON: ref("Dataset")}, is_read=True,
)  # fmt: skip
ITEM = replace(
    DESCRIBE, path="/metadata/time-series/{dataset}", name="readMetadata",
    answer={JSON: array(ref("InventoryItem"))},
    description="The inventory item of a dataset of CORE. A key after the id changes nothing, and `*` in "
    "place of the id means all of them.",
    is_old_name=True,
)  # fmt: skip
META = replace(
    ITEM, path="/meta/{workspace}/{dataset}", name="readMeta",
    description="The inventory item of a dataset. The workspace may be left out, which means CORE.",
)  # fmt: skip
ITEMS = (ITEM, *with_keys(ITEM, "key", "subkey"))
EDIT = Operation(
    "PATCH", "/datasets/{workspace}/{dataset}", "editDataset", "Change a dataset", DATASETS, SECRET,
    {JSON: ref("DatasetSuccess")}, "Texts and schema; what is left out stays.",
    body={JSON: ref("DatasetChanges")},
)  # fmt: skip
DATASET_OPERATIONS = (
    LIST,
    replace(LIST, path="/data/{workspace}", name="listWorkspaceDatasets"),
    replace(LIST, path="/datasets/{workspace}", name="listDatasetsOf"),
    Operation(
        "POST", "/datasets/{workspace}", "createDataset", "Create a dataset", DATASETS, SECRET,
        {JSON: ref("DatasetSuccess")}, body={JSON: ref("NewDataset")}, more_codes=("plan-required",),
    ),
    DESCRIBE,
    EDIT,
    replace(EDIT, method="POST", name="editDatasetByPost"),
    Operation(
        "PUT", "/datasets/{workspace}/{dataset}/{key}", "renameDataset", "Rename a dataset", DATASETS, SECRET,
        {JSON: ref("DatasetSuccess")}, "The new id stands in the place of a key; the body is empty.",
    ),
    Operation(
        "DELETE", "/datasets/{workspace}/{dataset}", "deleteDataset", "Delete a dataset", DATASETS, SECRET,
        {JSON: ref("DatasetSuccess")},
        "The whole dataset, restorable for 24 hours. Refused with any parameter that chooses records.",
    ),
    Operation(
        "GET", "/generate-schema/{workspace}/{dataset}", "readSchema", "The schema of a dataset", DATASETS,
        READ, {JSON: ref("DescribedSchema")}, is_read=True,
    ),
    Operation(
        "POST", "/generate-schema/{workspace}", "generateSchema", "The schema that a sample suggests",
        DATASETS, SECRET, {JSON: ref("DescribedSchema")}, body=FILE, is_repeatable=False,
    ),
)  # fmt: skip
JOB_LIST = Operation(
    "GET", "/jobs/{workspace}/ingest", "listJobs", "List ingestion jobs", JOBS, WRITE,
    {JSON: array(ref("Job"))}, "Those of datasets that the token may write, newest first.", parameters="jobs",
)  # fmt: skip
JOB_OPERATIONS = (
    JOB_LIST,
    Operation(
        "POST", "/jobs/{workspace}/ingest", "createJob", "Send a file inside a document", JOBS, WRITE,
        {JSON: ref("JobSuccess")}, "The parameters of an upload may stand beside `data`.",
        parameters="ingest", body={JSON: ref("NewJob")},
        more_codes=("dataset-not-granted", "not-found", "storage-limit"),
    ),
    Operation(
        "GET", "/jobs/{workspace}/ingest/{jobId}", "readJob", "State and counts of a job", JOBS, WRITE,
        {JSON: ref("Job")}, more_codes=("not-found",),
    ),
    Operation(
        "GET", "/jobs/{workspace}/ingest/{jobId}/invalid-records-log", "readInvalidRecords",
        "The invalid lines of a job", JOBS, WRITE, {CSV: TEXT}, "As CSV: `jobId,lineNumber,error`.",
        headers=("Content-Disposition",), more_codes=("not-found",),
    ),
    Operation(
        "GET", "/jobs/{workspace}/{jobId}", "cancelJob", "Cancel a job", JOBS, SECRET,
        {JSON: ref("JobCancelled")}, "As older clients ask for it.", more_codes=("not-found",),
        is_old_name=True,
    ),
)  # fmt: skip
TYPED_USAGE = Operation(
    "GET", "/account/usage/{type}", "readUsageOf", "The credits of this month", ACCOUNT, SECRET,
    {JSON: {"anyOf": [ref("Usage"), array({})]}}, is_read=True,
)  # fmt: skip
BUDGET = Operation(
    "GET", "/account/messagebudget", "setMessageBudget", "Keep a monthly budget", ACCOUNT, SECRET,
    {JSON: {"const": "SUCCESS"}}, "It is told as `circuitBreaker` and stops nothing. Older clients send "
    "`allow` here instead, or as well.",
    parameters="messagebudget", is_read=True,
)  # fmt: skip
PAY = replace(
    BUDGET, path="/account/payasyougo", name="setPayAsYouGo", summary="Keep whether to pay as you go",
    description="It is told as `payAsYouGoEnabled` and lifts no limit.", parameters="payasyougo",
    required=("allow",),
)  # fmt: skip
BY_POST: dict[str, Any] = {
    "method": "POST", "is_read": False, "body": {JSON: ref("TokenInBody")}, "body_required": False,
}  # fmt: skip
ACCOUNT_OPERATIONS = (
    Operation(
        "GET", "/account/metadata", "readAccount", "The account", ACCOUNT, SECRET, {JSON: ref("Account")},
        is_read=True,
    ),
    replace(TYPED_USAGE, path="/account/usage", name="readUsage", answer={JSON: ref("AccountUsage")}),
    TYPED_USAGE,
    BUDGET,
    replace(BUDGET, name="setMessageBudgetByPost", **BY_POST),
    PAY,
    replace(PAY, name="setPayAsYouGoByPost", **BY_POST),
    Operation(
        "GET", "/logs/{workspace}", "readLogs", "Changes and failed jobs", ACCOUNT, SECRET,
        {JSON: array(ref("LogLine"))}, "Newest first.", parameters="logs",
    ),
)  # fmt: skip
SERVICE_OPERATIONS = (
    Operation("GET", "/status", "readStatus", "Whether the service is up", SERVICE, PUBLIC,
              {JSON: ref("Status")}),
    Operation(
        "GET", "/openapi-doc", "readDocument", "This document", SERVICE, PUBLIC, {JSON: {"type": "object"}},
        headers=("Cache-Control", "ETag", "Vary", "Content-Encoding"), is_read=True,
    ),
    Operation(
        "GET", "/openapi-doc/{workspace}/{dataset}", "readDatasetDocument", "The document of a dataset",
        SERVICE, READ, {JSON: {"type": "object"}}, "What the token may do with it, and its schema.",
        is_read=True,
    ),
)  # fmt: skip
OPERATIONS: tuple[Operation, ...] = (
    *READS, WRITE_RECORDS, INGEST, *DELETES, *DATASET_OPERATIONS, *JOB_OPERATIONS, *ACCOUNT_OPERATIONS,
    *TOKEN_OPERATIONS, *SERVICE_OPERATIONS,
    *also_at("/query/{workspace}/{dataset}", "query", *READS),
    *also_at("/time-series/{dataset}", "readTimeSeries", *READS),
    INVENTORY,
    *also_at("/metadata/time-series", "listMetadata", INVENTORY),
    *ITEMS,
    *also_at("/meta", "listMeta", INVENTORY),
    replace(INVENTORY, path="/meta/{workspace}", name="listMetaOf", description="The same of a workspace."),
    META,
    *with_keys(META, "key", "subkey"),
    *also_at("/write/{workspace}/{dataset}", "write", WRITE_RECORDS),
    replace(INGEST, method="PUT", path="/datasets/{workspace}/{dataset}", name="ingestDataByPut",
            is_old_name=True),
    *also_at("/datasets/{workspace}/{dataset}/{key}", "deleteDatasetRecords", *DELETES[1:3]),
)  # fmt: skip
