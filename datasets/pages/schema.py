"""The schema editor: a dataset's properties as rows of a form, and the Schema that the form describes.

    rows_of(schema) -> list[Row]                          as it is
    edited(schema, given) -> (rows, new row, Schema | Refusal)    as submitted

editing.edit_dataset() decides whether stored records allow it, and counts those that would break it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from apperate.accounts.decorators import MemberRequest, workspace_admin
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.pages.datasets import load
from datasets.records.schema import Property, PropertyType, Schema, parse_schema
from datasets.services import editing

TYPES = tuple(found.value for found in PropertyType)
NEW = "new"
DESCRIPTION_MAX = 500


@dataclass(frozen=True, slots=True)
class Row:
    """One property of the form; `field` prefixes its inputs. `role` is set for index properties."""

    field: str
    name: str
    type: str
    is_nullable: bool
    description: str
    role: str = ""
    is_removed: bool = False

    @property
    def types(self) -> list[tuple[str, bool]]:
        return [(name, name == self.type) for name in TYPES]


def rows_of(schema: Schema) -> list[Row]:
    roles = {name: role for role, name in schema.column_mapping().items()}
    return [
        Row(f"p{at}", one.name, one.type.value, one.nullable, one.description, roles.get(one.name, ""))
        for at, one in enumerate(schema.properties)
    ]


def edited(schema: Schema, given: Mapping[str, str]) -> tuple[list[Row], Row, Schema | Refusal]:
    """The rows as submitted, the row for a new property, and the schema of both."""
    rows = [_sent(row, given) for row in rows_of(schema)]
    added = _sent(Row(NEW, given.get("new-name", "").strip(), TYPES[0], True, ""), given)
    pairs = zip(schema.properties, rows, strict=True)
    properties = [_property(old, row) for old, row in pairs if not row.is_removed]
    document = replace(schema, properties=tuple(properties)).to_json()
    if added.name:
        if added.name in document["properties"]:
            return rows, added, _taken(added.name)
        one = Property(added.name, PropertyType(added.type), added.is_nullable, added.description)
        document["properties"][added.name] = one.to_json()
        document["required"] += [] if one.nullable else [one.name]
    return rows, added, parse_schema(document, schema.column_mapping())


def empty_row() -> Row:
    return Row(NEW, "", PropertyType.STRING.value, True, "")


def _sent(row: Row, given: Mapping[str, str]) -> Row:
    """The row with the form's values; for an index property only the description can change."""
    description = given.get(f"{row.field}-description", row.description).strip()[:DESCRIPTION_MAX]
    if row.role:
        return replace(row, description=description)
    kind = given.get(f"{row.field}-type", row.type)
    return replace(
        row,
        type=kind if kind in TYPES else row.type,
        is_nullable=f"{row.field}-nullable" in given,
        description=description,
        is_removed=f"{row.field}-remove" in given,
    )


def _property(old: Property, row: Row) -> Property:
    return replace(old, type=PropertyType(row.type), nullable=row.is_nullable, description=row.description)


def _taken(name: str) -> Refusal:
    return Refusal(
        "invalid-values", f"There is a property {name} already.", received=name, needed="another name"
    )


# --- views ---------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_schema(request: MemberRequest, name: str) -> HttpResponseBase:
    """A schema that stored records break is refused with their number, and stays in the form."""
    dataset = load(request, name)
    context = {
        "dataset": dataset,
        "rows": rows_of(dataset.schema),
        "added": empty_row(),
    }
    if request.method != "POST":
        return render(request, "datasets/schema.html", context)
    rows, added, outcome = edited(dataset.schema, request.POST.dict())
    if not isinstance(outcome, Refusal):
        saved = editing.edit_dataset(dataset=dataset, schema=outcome, by=request.user, now=database_now())
        if not isinstance(saved, Refusal):
            messages.success(request, f"The schema of {dataset.name} is saved.")
            return redirect("datasets:detail", dataset.name)
        outcome = saved
    context |= {"rows": rows, "added": added, "refusal": outcome.in_words, "faults": outcome.errors}
    return render(request, "datasets/schema.html", context, status=422)
