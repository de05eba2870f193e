"""The trash pages: what was deleted in the last 24 hours; an admin can restore it."""

from django.contrib import messages
from django.http import Http404, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from apperate.accounts.decorators import MemberRequest, workspace_admin
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets import selectors
from datasets.jobs import making
from datasets.models import IngestJob
from datasets.pages.datasets import load
from datasets.pages.forms import DeleteForm
from datasets.services import editing, trash


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_delete(request: MemberRequest, name: str) -> HttpResponseBase:
    """Asks for the dataset's id, so that a slip deletes nothing."""
    dataset = load(request, name)
    form = DeleteForm(request.POST if request.method == "POST" else None, dataset=dataset)
    if not form.is_valid():
        context = {"dataset": dataset, "form": form, "row": selectors.rows_of([dataset])[0]}
        return render(request, "datasets/delete.html", context, status=422 if form.is_bound else 200)
    outcome = editing.delete_dataset(dataset=dataset, by=request.user, now=database_now())
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.in_words)
    else:
        hours = editing.TRASH_HOURS
        messages.success(request, f"{dataset.name} is deleted. It can be restored for {hours} hours.")
    return redirect("datasets:list")


@require_POST
@workspace_admin
def dataset_restore(request: MemberRequest, name: str) -> HttpResponseBase:
    now = database_now()
    dataset = editing.deleted_datasets(request.workspace, now=now).filter(name=name.upper()).first()
    if dataset is None:
        raise Http404
    outcome = editing.restore_dataset(dataset=dataset, by=request.user, now=now)
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.in_words)
        return redirect("datasets:list")
    messages.success(request, f"{dataset.name} is restored")
    return redirect("datasets:detail", dataset.name)


@require_POST
@workspace_admin
def records_restore(request: MemberRequest, name: str, deletion_id: int) -> HttpResponseBase:
    dataset = load(request, name)
    now = database_now()
    deletion = trash.deletions_of(dataset, now=now).filter(pk=deletion_id).first()
    if deletion is None:
        raise Http404
    outcome = making.restore_deletion(deletion=deletion, by=request.user, now=now)
    if isinstance(outcome, IngestJob):
        messages.success(request, f"{deletion.records:,} records are being restored.")
        return redirect("datasets:job", outcome.public_id)
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.in_words)
    else:
        kept = f", kept {outcome.kept:,} that were written again" if outcome.kept else ""
        messages.success(request, f"Restored {outcome.records:,} records{kept}")
    return redirect("datasets:detail", dataset.name)
