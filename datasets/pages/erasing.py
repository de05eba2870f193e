"""The pages' "Delete for good": empties the trash at once and frees its room."""

from contextlib import suppress

from django.contrib import messages
from django.http import Http404, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods
from procrastinate.exceptions import AlreadyEnqueued

from apperate.accounts.decorators import MemberRequest, workspace_admin
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets import selectors
from datasets.jobs.queue import purge_files
from datasets.pages.datasets import load
from datasets.pages.forms import DeleteForm
from datasets.services import editing, trash


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_erase(request: MemberRequest, name: str) -> HttpResponseBase:
    """Asks for the dataset's id, because nothing brings it back."""
    now = database_now()
    dataset = editing.deleted_datasets(request.workspace, now=now).filter(name=name.upper()).first()
    if dataset is None:
        raise Http404
    form = DeleteForm(request.POST if request.method == "POST" else None, dataset=dataset)
    if not form.is_valid():
        context = {"dataset": dataset, "form": form, "row": selectors.rows_of([dataset])[0]}
        return render(request, "datasets/erase.html", context, status=422 if form.is_bound else 200)
    outcome = trash.erase_dataset(dataset=dataset, by=request.user, now=now)
    tell(request, outcome, f"{dataset.name} is deleted for good")
    return redirect("datasets:list")


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def records_erase(request: MemberRequest, name: str, deletion_id: int) -> HttpResponseBase:
    dataset = load(request, name)
    now = database_now()
    deletion = trash.deletions_of(dataset, now=now).filter(pk=deletion_id).first()
    if deletion is None:
        raise Http404
    if request.method != "POST":
        return render(request, "datasets/erase.html", {"dataset": dataset, "deletion": deletion})
    outcome = trash.erase_deletion(deletion=deletion, by=request.user, now=now)
    tell(request, outcome, f"{deletion.records:,} records are deleted for good")
    return redirect("datasets:detail", dataset.name)


def tell(request: MemberRequest, outcome: trash.Erased | Refusal, done: str) -> None:
    """Report the result; large amounts are removed in the background, starting now."""
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.in_words)
        return
    if not outcome.is_done:
        with suppress(AlreadyEnqueued):
            purge_files.configure().defer(timestamp=0)
    messages.success(request, f"{done}." if outcome.is_done else f"{done}; the room is free in a while.")
