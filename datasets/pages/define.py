"""Defining a new dataset by form: its properties as rows, and the Schema they describe.

rows_of(given, more=…) -> list[Row]           as sent; empty ones for a form not sent yet
schema_of(rows) -> Schema | Refusal           rows without a name are left out
"""

from collections.abc import Mapping
from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from apperate.accounts.decorators import MemberRequest, workspace_admin
from apperate.dashboard.redirects import go_to
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.models import Dataset
from datasets.pages.datasets import invalid
from datasets.pages.forms import DefineForm
from datasets.records.schema import INDEX_ROLES, Property, PropertyType, Schema, parse_schema
from datasets.services import creating

TYPES = tuple(found.value for found in PropertyType)
NONE = ""
ROLES = {NONE: "None", "key": "Key", "subkey": "Subkey", "date": "Date"}
ROWS, ROWS_ADDED, ROWS_MAX = 4, 4, 200
NAME_CHARS_MAX = 255


@dataclass(frozen=True, slots=True)
class Row:
    """One property of the form; `field` prefixes its inputs, `number` counts from 1."""

    number: int
    name: str = ""
    type: str = PropertyType.STRING.value
    role: str = NONE
    is_required: bool = False

    @property
    def field(self) -> str:
        return f"p{self.number}"

    @property
    def types(self) -> list[tuple[str, bool]]:
        return [(name, name == self.type) for name in TYPES]

    @property
    def roles(self) -> list[tuple[str, str, bool]]:
        return [(role, title, role == self.role) for role, title in ROLES.items()]


def rows_of(given: Mapping[str, str], *, more: bool = False) -> list[Row]:
    """At most ROWS_MAX rows; `more` adds some empty ones."""
    sent = given.get("rows", "")
    count = int(sent) if sent.isascii() and sent.isdigit() and len(sent) < 4 else ROWS
    rows = [_sent(Row(number), given) for number in range(1, min(max(count, 1), ROWS_MAX) + 1)]
    added = ROWS_ADDED if more else 0
    return rows + [Row(number) for number in range(len(rows) + 1, min(len(rows) + added, ROWS_MAX) + 1)]


def schema_of(rows: list[Row]) -> Schema | Refusal:
    named = [row for row in rows if row.name]
    if not named:
        return _fault("The dataset has no property yet.", "the name of at least one property")
    mapping: dict[str, str] = {}
    seen: set[str] = set()
    for row in named:
        if row.name in seen:
            return _fault(f"There are two properties {row.name}.", "a name of its own for each")
        if row.role in mapping:
            return _fault(f"There are two properties as {row.role}.", f"one property as {row.role}")
        seen.add(row.name)
        if row.role:
            mapping[row.role] = row.name
    properties = {row.name: Property(row.name, PropertyType(row.type)).to_json() for row in named}
    required = [row.name for row in named if row.is_required]
    return parse_schema({"properties": properties, "required": required}, mapping)


def _sent(row: Row, given: Mapping[str, str]) -> Row:
    kind, role = given.get(f"{row.field}-type", row.type), given.get(f"{row.field}-role", NONE)
    return Row(
        row.number,
        given.get(f"{row.field}-name", "").strip()[: NAME_CHARS_MAX + 1],
        kind if kind in TYPES else row.type,
        role if role in INDEX_ROLES else NONE,
        f"{row.field}-required" in given,
    )


def _fault(detail: str, needed: str) -> Refusal:
    return Refusal("invalid-values", detail, check="body", needed=needed)


# --- views ---------------------------------------------------------------------------------------


TEMPLATE = "datasets/define.html"


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_define(request: MemberRequest) -> HttpResponseBase:
    """ "More properties" submits the form too; it comes back as filled in, with more rows."""
    if request.method != "POST" or "more" in request.POST:
        return _shown(request)
    rows = rows_of(request.POST.dict())
    form = DefineForm(request.POST, workspace=request.workspace)
    outcome: Schema | Dataset | Refusal = schema_of(rows)
    if form.is_valid() and isinstance(outcome, Schema):
        outcome = creating.create_dataset(
            workspace=request.workspace,
            name=form.cleaned_data["name"],
            schema=outcome,
            by=request.user,
            now=database_now(),
            details={"title": form.cleaned_data["title"]},
        )
    if isinstance(outcome, Dataset):
        messages.success(request, f"{outcome.name} is created.")
        return go_to(request, reverse("datasets:detail", args=[outcome.name]))
    if isinstance(outcome, Refusal):
        form.add_error(None, outcome.in_words)
    return invalid(request, TEMPLATE, {"form": form} | _of(request, rows))


def _shown(request: MemberRequest) -> HttpResponseBase:
    given = request.POST.dict() or {"name": creating.new_dataset_name()}
    rows = rows_of(given, more="more" in given)
    form = DefineForm(workspace=request.workspace, initial=given)
    first_added = len(rows) - ROWS_ADDED + 1 if "more" in given else 0
    context = {"form": form, "focus": first_added} | _of(request, rows)
    response = render(request, f"{TEMPLATE}#form" if request.htmx else TEMPLATE, context)
    response.headers["Vary"] = "HX-Request"
    return response


def _of(request: MemberRequest, rows: list[Row]) -> dict[str, object]:
    return {
        "rows": rows,
        "can_add": len(rows) < ROWS_MAX,
        "no_room": creating.no_room(request.workspace),
    }
