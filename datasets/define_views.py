"""The page that makes a dataset without a file: its id, and its properties as rows. For admins."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from apperate.accounts.decorators import MemberRequest, workspace_admin
from apperate.clock import database_now
from apperate.refusals import Refusal
from datasets import define_page, services
from datasets.forms import DefineForm
from datasets.models import Dataset
from datasets.schema import Schema
from datasets.views import go_to, invalid

TEMPLATE = "datasets/define.html"


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_define(request: MemberRequest) -> HttpResponseBase:
    """ "More properties" sends the form as well; it comes back as it was filled in, and longer."""
    if request.method != "POST" or "more" in request.POST:
        return _shown(request)
    rows = define_page.rows_of(request.POST.dict())
    form = DefineForm(request.POST, workspace=request.workspace)
    outcome: Schema | Dataset | Refusal = define_page.schema_of(rows)
    if form.is_valid() and isinstance(outcome, Schema):
        outcome = services.create_dataset(
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
    given = request.POST.dict() or {"name": services.new_dataset_name()}
    rows = define_page.rows_of(given, more="more" in given)
    form = DefineForm(workspace=request.workspace, initial=given)
    first_added = len(rows) - define_page.ROWS_ADDED + 1 if "more" in given else 0
    context = {"form": form, "focus": first_added} | _of(request, rows)
    response = render(request, f"{TEMPLATE}#form" if request.htmx else TEMPLATE, context)
    response.headers["Vary"] = "HX-Request"
    return response


def _of(request: MemberRequest, rows: list[define_page.Row]) -> dict[str, object]:
    return {
        "rows": rows,
        "can_add": len(rows) < define_page.ROWS_MAX,
        "no_room": services.no_room(request.workspace),
    }
