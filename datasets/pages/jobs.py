"""The job pages: states in words, and the progress of running jobs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, QuerySet
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import reswap, retarget

from apperate.accounts.decorators import MemberRequest, workspace_admin, workspace_member
from apperate.accounts.models import Workspace
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets import selectors
from datasets.jobs import making
from datasets.models import Deletion, IngestJob
from datasets.selectors import size_words
from datasets.storage import deletes, job_files

# The badge of each job state; its text carries the meaning, its colour only helps.
BADGES = {
    IngestJob.Status.INGESTED: "badge-ok",
    IngestJob.Status.ERROR: "badge-bad",
    IngestJob.Status.CANCELLED: "",
}
Status, Kind = IngestJob.Status, IngestJob.Kind
# The states that filter the list: word of the URL → (title, states).
GROUPS = {
    "running": ("Running", (Status.CREATED, *IngestJob.RUNNING)),
    "complete": ("Complete", (Status.INGESTED,)),
    "failed": ("Failed", (Status.ERROR,)),
    "cancelled": ("Cancelled", (Status.CANCELLED,)),
}
SAID_STEP = 25


def jobs_of(workspace: Workspace) -> QuerySet[IngestJob]:
    """The jobs of a workspace's datasets, newest first."""
    found = IngestJob.objects.filter(dataset__workspace=workspace, dataset__deleted_at=None)
    return found.select_related("dataset", "created_by").order_by("-created_at", "-pk")


@dataclass(frozen=True, slots=True)
class Choice:
    """The jobs of a list, and its filters.

    `dataset` is set when `words` is a complete id. `tabs`: (group, title, count, whether it is chosen).
    """

    jobs: QuerySet[IngestJob]
    words: str
    group: str
    dataset: str
    tabs: list[tuple[str, str, int, bool]]

    @property
    def has_running(self) -> bool:
        return any(group == "running" and count for group, _, count, _ in self.tabs)


def chosen_jobs(workspace: Workspace, *, words: str, group: str) -> Choice:
    """Jobs by dataset, part of its id, and group of states; unknown values filter nothing."""
    found, group = jobs_of(workspace), group if group in GROUPS else ""
    dataset = words if workspace.datasets.kept().filter(name=words).exists() else ""
    if words:
        found = found.filter(dataset__name=words) if dataset else found.filter(dataset__name__contains=words)
    counted = dict(found.order_by().values_list("status").annotate(n=Count("pk")))
    tabs = [("", "All", sum(counted.values()), not group)]
    for name, (title, states) in GROUPS.items():
        tabs.append((name, title, sum(counted.get(state, 0) for state in states), name == group))
    if group:
        found = found.filter(status__in=GROUPS[group][1])
    return Choice(found, words, group, dataset, tabs)


@dataclass(frozen=True, slots=True)
class State:
    """A job's state in words, and its badge."""

    text: str
    badge: str


def state_of(job: IngestJob) -> State:
    if job.cancel_requested_at and not job.has_ended:
        return State("Being cancelled", "badge-warn")
    text: str = job.get_status_display()
    if job.has_file and job.status in IngestJob.RUNNING:
        text = f"{text}, {int(100 * making.progress(job))}%"
    if job.status == Status.INGESTED and job.invalid:
        return State(f"{text}, {job.invalid:,} rejected", "badge-warn")
    return State(text, BADGES.get(Status(job.status), "badge-blue"))


def with_states(found: Iterable[IngestJob]) -> list[tuple[IngestJob, State]]:
    return [(job, state_of(job)) for job in found]


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job that has not ended. `percent` is None when it cannot be known.

    `figures`: (name, figure, caption). `said` is what a screen reader hears; it changes seldom.
    """

    percent: int | None
    note: str
    figures: list[tuple[str, str, str]]
    said: str


def progress_of(job: IngestJob) -> Progress | None:
    """None for a job that has ended."""
    if job.has_ended:
        return None
    if job.cancel_requested_at:
        note = "The job is being cancelled. The dataset stays as it was."
    elif job.status == Status.CREATED:
        note = "The job waits for its turn."
    elif job.kind == Kind.DELETE:
        note = "The records are being moved to the trash. Until all of them are, none is gone."
    elif job.kind == Kind.RESTORE:
        note = "The records are being put back. None is there until all of them are."
    elif job.status == Status.PROCESSING:
        note = "Every line is checked. Nothing of the file is visible until all of it is stored."
    else:
        note = "The file is being checked. Nothing of it is visible until all of it is stored."
    if not job.has_file:
        return Progress(None, note, _of_records(job), note)
    percent = None if job.status == Status.CREATED else int(100 * making.progress(job))
    said = f"{note} {percent // SAID_STEP * SAID_STEP}% is done." if percent else note
    return Progress(percent, note, _of_file(job), said)


def _of_file(job: IngestJob) -> list[tuple[str, str, str]]:
    size = size_words(job_files.body_bytes(job))
    if job.status == Status.CREATED:
        return [("File", size, "not read yet")]
    return [
        ("Rows read", f"{job.rows_done:,}", "valid or not"),
        ("Bytes read", size_words(job.bytes_done), f"of {size}"),
    ]


def _of_records(job: IngestJob) -> list[tuple[str, str, str]]:
    """One statement changes all the records, so there is no partial progress to show."""
    if job.kind == Kind.DELETE:
        return []
    deletion = Deletion.objects.filter(pk=deletes.deletion_of(job)).first()
    return [("Records to restore", f"{deletion.records:,}", "of that delete")] if deletion else []


# --- views ---------------------------------------------------------------------------------------


@require_safe
@workspace_member
def job_list(request: MemberRequest) -> HttpResponseBase:
    words = request.GET.get("dataset", "").replace("\0", "").strip().upper()[:63]
    chosen = chosen_jobs(request.workspace, words=words, group=request.GET.get("state", ""))
    page = Paginator(chosen.jobs, selectors.PAGE_ROWS).get_page(request.GET.get("page"))
    context = {
        "chosen": chosen,
        "page": page,
        "jobs": with_states(page),
        "dataset_name": chosen.dataset,
    }
    return render(request, "datasets/jobs.html", context)


@require_safe
@workspace_member
def job_detail(request: MemberRequest, job_id: str) -> HttpResponseBase:
    """A job. While it runs, the page polls only its progress, so that buttons stay in place."""
    job = load_job(request, job_id)
    fragment = "" if not request.htmx else "#job" if job.has_ended else "#progress"
    response = render(request, f"datasets/job.html{fragment}", context_of(job))
    response.headers["Vary"] = "HX-Request"
    return response if fragment != "#job" else reswap(retarget(response, "#job"), "outerHTML")


@require_POST
@workspace_admin
def job_cancel(request: MemberRequest, job_id: str) -> HttpResponseBase:
    job = load_job(request, job_id)
    outcome = making.cancel(job, by=request.user, now=database_now())
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.in_words)
    else:
        is_done = outcome.has_ended
        messages.success(request, "The job is cancelled" if is_done else "The job is being cancelled")
    return redirect("datasets:job", job.public_id)


@require_POST
@workspace_admin
def job_retry(request: MemberRequest, job_id: str) -> HttpResponseBase:
    job = load_job(request, job_id)
    outcome = making.retry(job, by=request.user, now=database_now())
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.in_words)
    else:
        messages.success(request, "The job is queued again")
    return redirect("datasets:job", job.public_id)


@require_safe
@workspace_member
def job_invalid_lines(request: MemberRequest, job_id: str) -> HttpResponseBase:
    job = load_job(request, job_id)
    name = f"{job.dataset.name}-{job.public_id[:8]}-invalid.csv"
    return HttpResponse(
        job_files.invalid_lines(job),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def load_job(request: MemberRequest, job_id: str) -> IngestJob:
    """The job, if it belongs to a dataset of the workspace that is not deleted."""
    job: IngestJob = get_object_or_404(jobs_of(request.workspace), public_id=job_id)
    return job


def context_of(job: IngestJob) -> dict[str, Any]:
    return {
        "job": job,
        "dataset": job.dataset,
        "state": state_of(job),
        "progress": progress_of(job),
        "size": selectors.size_words(job.size_bytes),
        "can_retry": making.can_retry(job),
        "first_invalid": job_files.first_invalid(job) if job.has_ended and job.invalid else [],
    }
