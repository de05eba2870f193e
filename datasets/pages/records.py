"""The data browser: a dataset's records page by page, filtered by key, date and condition.

    records_of(dataset, given, now=…) -> Page      `fault` says what is wrong with the filters
    csv_of(dataset, page) -> bytes                 its records with all columns, nothing cut

It uses the same parameter table as the API, so a parameter means the same in both. Browsing costs members
no credits and is not metered: no token is involved.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlencode

import simplejson
from django.db import OperationalError, transaction
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from apperate.accounts.decorators import MemberRequest, workspace_member
from apperate.database.clock import database_now
from apperate.kernel.json_text import DECODER
from apperate.kernel.refusals import Refusal
from datasets import selectors
from datasets.answers import renderers
from datasets.models import Dataset
from datasets.pages.datasets import load
from datasets.query import parsing
from datasets.query.cursors import write_cursor
from datasets.records.schema import PropertyType, Schema, is_storable
from datasets.storage import reads, writes

ROWS = 50
COLUMNS_MAX = 40
CELL_CHARS_MAX = 200
TEXT_CHARS_MAX = 500
READ_SECONDS = 4
NUMBERS = (PropertyType.INTEGER, PropertyType.NUMBER)
FILTERS = ("key", "subkey", "from", "to", "where")
NEWEST, OLDEST = "desc", "asc"


@dataclass(frozen=True, slots=True)
class Column:
    """`is_number` aligns its cells."""

    name: str
    is_number: bool


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    is_number: bool


@dataclass(frozen=True, slots=True)
class Page:
    """`rows` are the cells of `columns`, `texts` the records as stored.

    `query` is this page, `next_query` the next one, `first_query` the start of the filtered list.
    """

    values: Mapping[str, str]
    columns: tuple[Column, ...]
    hidden: int
    rows: tuple[tuple[Cell, ...], ...] = ()
    texts: tuple[str, ...] = ()
    fault: str = ""
    query: str = ""
    first_query: str = ""
    next_query: str = ""

    @property
    def is_first(self) -> bool:
        return not self.values.get("cursor")

    @property
    def is_filtered(self) -> bool:
        return any(self.values.get(name) for name in FILTERS)


def records_of(dataset: Dataset, given: Mapping[str, str], *, now: datetime) -> Page:
    schema = dataset.schema
    values = {name: given.get(name, "").strip()[:TEXT_CHARS_MAX] for name in (*FILTERS, "sort")}
    values["sort"] = OLDEST if values["sort"] == OLDEST else NEWEST
    first = [(name, text) for name, text in values.items() if text]
    cursor = given.get("cursor", "")
    names = columns_first(schema)
    columns = tuple(Column(name, _is_number(schema, name)) for name in names[:COLUMNS_MAX])
    page = Page(values | {"cursor": cursor}, columns, len(names) - len(columns))
    if not all(is_storable(text) for text in values.values()):
        return _with(page, fault="A filter holds a character that no record can hold.")
    asked = [(name, text) for name, text in first if name not in ("key", "subkey")]
    asked.append(("limit", str(ROWS)))
    query = parsing.parse(
        asked + ([("cursor", cursor)] if cursor else []),
        schema,
        now=now,
        path_key=values["key"] or None,
        path_subkey=(values["subkey"] or None) if values["key"] else None,
        name=dataset.name,
    )
    if isinstance(query, Refusal):
        return _with(page, fault=query.in_words)
    try:
        with transaction.atomic():
            writes.limit_statement(milliseconds=READ_SECONDS * 1000)
            found = reads.read_sync(selectors.metadata_of(dataset), query)
    except OperationalError:
        return _with(page, fault=f"This took longer than {READ_SECONDS} seconds. Name a key, or fewer days.")
    following = [*first, ("cursor", write_cursor(found.next, query.question))] if found.next else []
    return _with(
        page,
        rows=tuple(_cells(text, page.columns) for text in found.texts),
        texts=tuple(found.texts),
        query=urlencode([*first, *([("cursor", cursor)] if cursor else [])]),
        first_query=urlencode(first),
        next_query=urlencode(following),
    )


def csv_of(dataset: Dataset, page: Page) -> bytes:
    return renderers.render_csv(page.texts, columns_first(dataset.schema))


def columns_first(schema: Schema) -> tuple[str, ...]:
    """The property names, the index's first."""
    index = tuple(schema.column_mapping().values())
    return index + tuple(name for name in schema.names if name not in index)


def _with(page: Page, **changes: object) -> Page:
    return replace(page, **changes)  # type: ignore[arg-type]


def _is_number(schema: Schema, name: str) -> bool:
    found = schema.get(name)
    return found is not None and found.type in NUMBERS


def _cells(text: str, columns: tuple[Column, ...]) -> tuple[Cell, ...]:
    record = DECODER.decode(text)
    return tuple(Cell(_cell(record.get(column.name)), column.is_number) for column in columns)


def _cell(value: object) -> str:
    """A value in a cell: text as it is, others as JSON, long ones cut; empty for null."""
    if value is None:
        return ""
    shown = value if isinstance(value, str) else simplejson.dumps(value, ensure_ascii=False, use_decimal=True)
    return shown if len(shown) <= CELL_CHARS_MAX else f"{shown[:CELL_CHARS_MAX]}…"


# --- views ---------------------------------------------------------------------------------------


@require_safe
@workspace_member
def dataset_records(request: MemberRequest, name: str) -> HttpResponseBase:
    dataset = load(request, name)
    found = records_of(dataset, request.GET.dict(), now=database_now())
    return render(request, "datasets/records.html", {"dataset": dataset, "found": found})


@require_safe
@workspace_member
def dataset_records_csv(request: MemberRequest, name: str) -> HttpResponseBase:
    """The records of one page of the browser, as a file; the page itself reports wrong filters."""
    dataset = load(request, name)
    found = records_of(dataset, request.GET.dict(), now=database_now())
    if found.fault:
        return redirect(f"{reverse('datasets:records', args=[dataset.name])}?{request.GET.urlencode()}")
    return HttpResponse(
        csv_of(dataset, found),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{dataset.name}.csv"'},
    )
