"""The pages that rename and describe a dataset: its texts, and its id. For admins."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from apperate.accounts.decorators import MemberRequest, workspace_admin
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.pages.datasets import load
from datasets.pages.forms import DetailsForm, RenameForm
from datasets.services import editing


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_details(request: MemberRequest, name: str) -> HttpResponseBase:
    dataset = load(request, name)
    initial = {field: getattr(dataset, field) for field in DetailsForm.base_fields}
    form = DetailsForm(request.POST if request.method == "POST" else None, initial=initial)
    if form.is_valid():
        details = {field: form.cleaned_data[field] for field in form.changed_data}
        outcome = (
            editing.edit_dataset(dataset=dataset, details=details, by=request.user, now=database_now())
            if details
            else dataset
        )
        if not isinstance(outcome, Refusal):
            messages.success(request, f"The details of {dataset.name} are saved.")
            return redirect("datasets:detail", dataset.name)
        form.add_error(None, outcome.in_words)
    context = {"dataset": dataset, "form": form}
    return render(request, "datasets/details.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_rename(request: MemberRequest, name: str) -> HttpResponseBase:
    dataset = load(request, name)
    given = request.POST if request.method == "POST" else None
    form = RenameForm(given, workspace=request.workspace, dataset=dataset)
    if form.is_valid():
        outcome = editing.rename_dataset(
            dataset=dataset, name=form.cleaned_data["name"], by=request.user, now=database_now()
        )
        if not isinstance(outcome, Refusal):
            messages.success(request, f"{dataset.name} is {outcome.name} now.")
            return redirect("datasets:detail", outcome.name)
        form.add_error("name", outcome.in_words)
    context = {"dataset": dataset, "form": form}
    return render(request, "datasets/rename.html", context, status=422 if form.errors else 200)
