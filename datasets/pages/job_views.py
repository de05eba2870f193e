"""The pages of jobs. Members look; admins cancel a job and try one again."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import reswap, retarget

from apperate.accounts.decorators import MemberRequest, workspace_admin, workspace_member
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets import selectors
from datasets.jobs import making
from datasets.models import IngestJob
from datasets.pages import jobs as job_page
from datasets.storage import job_files


@require_safe
@workspace_member
def job_list(request: MemberRequest) -> HttpResponseBase:
    words = request.GET.get("dataset", "").replace("\0", "").strip().upper()[:63]
    chosen = job_page.chosen_jobs(request.workspace, words=words, group=request.GET.get("state", ""))
    page = Paginator(chosen.jobs, selectors.PAGE_ROWS).get_page(request.GET.get("page"))
    context = {
        "chosen": chosen,
        "page": page,
        "jobs": job_page.with_states(page),
        "dataset_name": chosen.dataset,
    }
    return render(request, "datasets/jobs.html", context)


@require_safe
@workspace_member
def job_detail(request: MemberRequest, job_id: str) -> HttpResponseBase:
    """A job. While it runs the page asks for its progress alone, so that buttons stay where they are."""
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
    """The job of a dataset of the workspace that was not deleted."""
    job: IngestJob = get_object_or_404(job_page.jobs_of(request.workspace), public_id=job_id)
    return job


def context_of(job: IngestJob) -> dict[str, Any]:
    return {
        "job": job,
        "dataset": job.dataset,
        "state": job_page.state_of(job),
        "progress": job_page.progress_of(job),
        "size": selectors.size_words(job.size_bytes),
        "can_retry": making.can_retry(job),
        "first_invalid": job_files.first_invalid(job) if job.has_ended and job.invalid else [],
    }
