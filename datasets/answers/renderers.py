"""Rows as an answer: JSON texts in, the bytes of a body out. Pure.

    CONTENT_TYPES[format]                                     exact: an older client compares the string
    render(format, texts, columns, filter=None) -> bytes      any text format
    render_json(texts, filter=None) -> bytes                  joined without parsing unless filtered
    render_csv(texts, columns, delimiter=",") -> bytes        RFC 4180 with a header line
    describe_columns(schema) -> (texts, columns)              the rows of schema=true
    accepted(header) -> str                                   the format that an Accept header prefers
    jsonp(body, callback) -> bytes                            a JSON body as a function call

`texts` are JSON objects as read by reads.py, `columns` the names and order of CSV columns.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from apperate.kernel.cells import escape_cell
from apperate.kernel.json_text import DECODER, dumps
from datasets.records.schema import Schema

CONTENT_TYPES: Mapping[str, str] = {
    "json": "application/json; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "psv": "text/plain; charset=utf-8",
    "ndjson": "application/x-ndjson; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
EXTENSIONS: Mapping[str, str] = {name: name for name in CONTENT_TYPES} | {"psv": "txt"}
JSONP = "application/javascript; charset=utf-8"
# The formats' names in Accept. A client that accepts anything gets JSON.
MEDIA_TYPES = {
    "application/json": "json",
    "application/*": "json",
    "*/*": "json",
    "text/csv": "csv",
    "text/psv": "psv",
    "text/pipe-separated-values": "psv",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
}
SCHEMA_COLUMNS = ("name", "type", "nullable", "index", "description")


def render(
    answer_format: str, texts: Sequence[str], columns: Sequence[str], filter: Sequence[str] | None = None
) -> bytes:
    """The body of an answer in a text format; `filter` keeps only these properties, in this order."""
    match answer_format:
        case "csv":
            return render_csv(texts, columns if filter is None else filter)
        case "psv":
            return render_csv(texts, columns if filter is None else filter, delimiter="|")
        case "ndjson":
            return "".join(f"{text}\n" for text in keep(texts, filter)).encode()
        case _:
            return render_json(texts, filter)


def render_json(texts: Sequence[str], filter: Sequence[str] | None = None) -> bytes:
    """One JSON array. Without a filter the texts are joined as they are, down to the white space."""
    return f"[{','.join(keep(texts, filter))}]".encode()


def keep(texts: Sequence[str], filter: Sequence[str] | None) -> Sequence[str]:
    """The texts with only these properties, in this order; properties a record lacks stay absent."""
    if filter is None:
        return texts
    records = map(DECODER.decode, texts)
    return [dumps({name: record[name] for name in filter if name in record}) for record in records]


def render_csv(texts: Sequence[str], columns: Sequence[str], delimiter: str = ",") -> bytes:
    """CSV by RFC 4180: a header, CRLF, quotes where needed; null and absent are empty, nested values JSON."""
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter)
    writer.writerow([escape_cell(name) for name in columns])
    for text in texts:
        record = DECODER.decode(text)
        writer.writerow([cell(record.get(name)) for name in columns])
    return written.getvalue().encode()


def cell(value: Any) -> str:
    """One value as a CSV cell: numbers as written, text that cannot run as a formula."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return escape_cell(value)
        case int() | Decimal():
            return str(value)
        case _:
            return dumps(value)


def accepted(header: str) -> str:
    """The format an Accept header weights highest, the first of equals; json when none is known."""
    best, best_weight = "json", 0.0
    for part in header.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        found = MEDIA_TYPES.get(media_type)
        weights = [text[2:] for text in parameters if text.startswith("q=")]
        try:
            weight = float(weights[0]) if weights else 1.0
        except ValueError:
            continue
        if found is not None and best_weight < weight <= 1:
            best, best_weight = found, weight
    return best


def jsonp(body: bytes, callback: str) -> bytes:
    """A call of the (checked) `callback` with a JSON body. The comment in front prevents content sniffing."""
    # Valid in JSON, but both end a line in older JavaScript.
    text = body.decode().replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f"/**/{callback}({text});".encode()


def describe_columns(schema: Schema) -> tuple[list[str], tuple[str, ...]]:
    """The rows and columns of a schema=true answer: one row per property, in order."""
    roles = {name: role for role, name in schema.column_mapping().items()}
    rows = [
        {
            "name": found.name,
            "type": found.type.value,
            "nullable": found.nullable,
            "index": roles.get(found.name),
            "description": found.description,
        }
        for found in schema.properties
    ]
    return [dumps(row) for row in rows], SCHEMA_COLUMNS
