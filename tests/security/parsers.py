"""What reads text that anybody may send. Each takes bytes and answers with a value, never with an exception.

The tests call them with what Hypothesis makes up and with the corpus; a fuzzer can be pointed at TARGETS too.
"""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

from apperate.kernel.json_text import loads_json, loads_records
from apperate.kernel.refusals import Refusal
from datasets.files.csv_file import InvalidLine
from datasets.files.parsing import open_rows
from datasets.query.parsing import Query, parse
from datasets.records.checking import RecordChecker, Row
from datasets.records.schema import Schema, dataset_id, parse_schema
from tokens.rules import domains, page_address, signing, token_format
from tokens.rules.webhook_target import Target, target_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DESCRIBED = {
    "type": "object",
    "properties": {
        "ticker": {"type": "string"},
        "day": {"type": "date"},
        "close": {"type": "number"},
        "count": {"type": "integer"},
        "open": {"type": "boolean"},
        "more": {"type": "object"},
        "list": {"type": "array"},
    },
}
MAPPING = {"key": "ticker", "date": "day"}


def schema() -> Schema:
    found = parse_schema(DESCRIBED, MAPPING)
    if isinstance(found, Refusal):
        raise TypeError(found.detail)
    return found


SCHEMA = schema()


def only(value: object, *kinds: type) -> None:
    if not isinstance(value, kinds):
        raise TypeError(f"{value!r:.200} is none of {kinds}")


def json_records(body: bytes) -> None:
    """The body of a write, and each of its records against a schema."""
    found = loads_records(body)
    only(found, list, Refusal)
    if isinstance(found, list):
        checker = RecordChecker(SCHEMA, now=NOW)
        for record in found:
            only(checker.check(record), Row, tuple)
    only(loads_json(body) if body else None, object)
    only(parse_schema(loads_json(body), MAPPING), Schema, Refusal)


def files(body: bytes) -> None:
    """An upload: CSV, JSON, JSON lines or Parquet, whichever it looks like."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        rows = open_rows(Path(file.name), SCHEMA, NOW)
        only(rows, Refusal) if isinstance(rows, Refusal) else [only(row, Row, InvalidLine) for _, row in rows]


def query_string(body: bytes) -> None:
    pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True)
    only(parse(pairs, SCHEMA, now=NOW), Query, Refusal)


def headers(body: bytes) -> None:
    """Authorization, the token in it, Referer, Origin; domain rules, a webhook's URL, a dataset's name."""
    text = body.decode("latin-1")
    only(signing.parse_authorization(text), signing.Parts, type(None))
    only(signing.parse_date(text), datetime, type(None))
    only(token_format.parse(text), token_format.ParsedValue, type(None))
    only(page_address.parse_referer(text), page_address.PageAddress, type(None))
    only(page_address.parse_origin(text), page_address.PageAddress, type(None))
    utf8 = body.decode("utf-8", "replace")
    rules, errors = domains.parse_rules(utf8)
    only(domains.match(rules, referer=text, origin=None), domains.Match)
    only(errors, tuple)
    only(dataset_id(utf8), str, Refusal)
    only(target_of(utf8), Target, str)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json records": json_records,
    "files": files,
    "query string": query_string,
    "headers": headers,
}
