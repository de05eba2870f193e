"""The pages of a dataset's records and schema. Members look; admins change the schema."""

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from apperate.accounts.decorators import MemberRequest, workspace_admin, workspace_member
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.pages import records, schema
from datasets.pages.datasets import load
from datasets.services import editing


@require_safe
@workspace_member
def dataset_records(request: MemberRequest, name: str) -> HttpResponseBase:
    dataset = load(request, name)
    found = records.records_of(dataset, request.GET.dict(), now=database_now())
    return render(request, "datasets/records.html", {"dataset": dataset, "found": found})


@require_safe
@workspace_member
def dataset_records_csv(request: MemberRequest, name: str) -> HttpResponseBase:
    """The records of one page of the browser, as a file; the page says what is wrong with a choice."""
    dataset = load(request, name)
    found = records.records_of(dataset, request.GET.dict(), now=database_now())
    if found.fault:
        return redirect(f"{reverse('datasets:records', args=[dataset.name])}?{request.GET.urlencode()}")
    return HttpResponse(
        records.csv_of(dataset, found),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{dataset.name}.csv"'},
    )


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_schema(request: MemberRequest, name: str) -> HttpResponseBase:
    """A schema that stored records break is refused with their number, and stays in the form."""
    dataset = load(request, name)
    context = {
        "dataset": dataset,
        "rows": schema.rows_of(dataset.schema),
        "added": schema.empty_row(),
    }
    if request.method != "POST":
        return render(request, "datasets/schema.html", context)
    rows, added, outcome = schema.edited(dataset.schema, request.POST.dict())
    if not isinstance(outcome, Refusal):
        saved = editing.edit_dataset(dataset=dataset, schema=outcome, by=request.user, now=database_now())
        if not isinstance(saved, Refusal):
            messages.success(request, f"The schema of {dataset.name} is saved.")
            return redirect("datasets:detail", dataset.name)
        outcome = saved
    context |= {"rows": rows, "added": added, "refusal": outcome.in_words, "faults": outcome.errors}
    return render(request, "datasets/schema.html", context, status=422)
