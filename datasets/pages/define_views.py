"""The page that makes a dataset without a file: its id, and its properties as rows. For admins."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from apperate.accounts.decorators import MemberRequest, workspace_admin
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.models import Dataset
from datasets.pages import define
from datasets.pages.datasets import go_to, invalid
from datasets.pages.forms import DefineForm
from datasets.records.schema import Schema
from datasets.services import creating

TEMPLATE = "datasets/define.html"


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_define(request: MemberRequest) -> HttpResponseBase:
    """ "More properties" sends the form as well; it comes back as it was filled in, and longer."""
    if request.method != "POST" or "more" in request.POST:
        return _shown(request)
    rows = define.rows_of(request.POST.dict())
    form = DefineForm(request.POST, workspace=request.workspace)
    outcome: Schema | Dataset | Refusal = define.schema_of(rows)
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
    rows = define.rows_of(given, more="more" in given)
    form = DefineForm(workspace=request.workspace, initial=given)
    first_added = len(rows) - define.ROWS_ADDED + 1 if "more" in given else 0
    context = {"form": form, "focus": first_added} | _of(request, rows)
    response = render(request, f"{TEMPLATE}#form" if request.htmx else TEMPLATE, context)
    response.headers["Vary"] = "HX-Request"
    return response


def _of(request: MemberRequest, rows: list[define.Row]) -> dict[str, object]:
    return {
        "rows": rows,
        "can_add": len(rows) < define.ROWS_MAX,
        "no_room": creating.no_room(request.workspace),
    }
