"""The dataset pages. Members look; admins create datasets and add data."""

from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import Http404, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from apperate.accounts.decorators import MemberRequest, workspace_admin, workspace_member
from apperate.dashboard.redirects import go_to
from apperate.database.clock import database_now
from apperate.http.page_bodies import takes_files
from apperate.kernel.refusals import Refusal
from datasets import selectors
from datasets.jobs import making, uploads
from datasets.models import Dataset
from datasets.pages import examples, jobs, operations_chart
from datasets.pages.forms import AddForm, IndexForm, UploadForm
from datasets.services import creating, editing, trash
from datasets.services.writing import IngestOptions


@require_safe
@workspace_member
def dataset_list(request: MemberRequest) -> HttpResponseBase:
    words = request.GET.get("q", "").strip()[:100]
    datasets = selectors.matching(request.workspace.datasets.kept(), words).order_by("name")
    page = Paginator(datasets, selectors.PAGE_ROWS).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "rows": selectors.rows_of(page),
        "words": words,
        "storage": selectors.stored_by(request.workspace),
        "deleted": editing.deleted_datasets(request.workspace, now=database_now()),
    }
    return render(request, "datasets/list.html", context)


@takes_files
@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_create(request: MemberRequest) -> HttpResponseBase:
    if request.method != "POST":
        form = UploadForm(workspace=request.workspace, initial={"name": creating.new_dataset_name()})
        return render(request, "datasets/create.html", create_context(request, form))
    form = UploadForm(request.POST, request.FILES, workspace=request.workspace)
    if form.is_valid():
        file = form.cleaned_data["file"]
        upload = uploads.keep(
            workspace=request.workspace,
            by=request.user,
            name=form.cleaned_data["name"],
            file_name=file.name,
            chunks=file.chunks(),
            now=database_now(),
        )
        if not isinstance(upload, Refusal):
            return go_to(request, reverse("datasets:review", args=[upload.public_id]))
        form.add_error("file", upload.in_words)
    return invalid(request, "datasets/create.html", create_context(request, form))


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_review(request: MemberRequest, upload_id: str) -> HttpResponseBase:
    """What was inferred from a file, and the choice of its index."""
    upload = uploads.find(upload_id, workspace=request.workspace, by=request.user)
    if upload is None:
        raise Http404
    form = IndexForm(request.POST if request.method == "POST" else None, upload=upload)
    if form.is_valid():
        job = uploads.finish(
            upload=upload,
            workspace=request.workspace,
            mapping=form.mapping(),
            types=form.types(),
            title=form.cleaned_data["title"],
            by=request.user,
            now=database_now(),
        )
        if not isinstance(job, Refusal):
            return go_to(request, reverse("datasets:job", args=[job.public_id]))
        form.add_error(None, job.in_words)
    context = {
        "upload": upload,
        "form": form,
        "size": selectors.size_words(upload.size_bytes),
    }
    if form.errors:
        return invalid(request, "datasets/review.html", context)
    return render(request, "datasets/review.html", context)


@require_safe
@workspace_member
def dataset_detail(request: MemberRequest, name: str) -> HttpResponseBase:
    dataset = load(request, name)
    now = database_now()
    deletions = Paginator(trash.deletions_of(dataset, now=now), selectors.DELETIONS_SHOWN)
    context = {
        "dataset": dataset,
        "row": selectors.rows_of([dataset])[0],
        "reads": selectors.reads_of(dataset, now=now),
        "columns": selectors.columns_of(dataset),
        "operations": operations_chart.operations_of(dataset, now=now),
        "example": examples.of_dataset(
            dataset, language=request.GET.get("lang", ""), chosen=request.GET.get("token", ""), now=now
        ),
        "jobs": jobs.with_states(jobs.jobs_of(request.workspace).filter(dataset=dataset)[:5]),
        "storage": selectors.stored_by(request.workspace).in_words,
        "page": deletions.get_page(request.GET.get("page")),
    }
    return render(request, "datasets/detail.html", context)


@takes_files
@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def dataset_add(request: MemberRequest, name: str) -> HttpResponseBase:
    dataset = load(request, name)
    form = AddForm(request.POST or None, request.FILES or None)
    if form.is_valid():
        file = form.cleaned_data["file"]
        job = making.create(
            dataset_id=dataset.pk,
            file=file.file,
            options=IngestOptions(replaces=form.cleaned_data["duplicates"] == "replace"),
            now=database_now(),
            by=request.user,
            file_name=file.name,
        )
        if not isinstance(job, Refusal):
            return go_to(request, reverse("datasets:job", args=[job.public_id]))
        form.add_error("file", job.in_words)
    context = {"dataset": dataset, "form": form, "columns": selectors.columns_of(dataset)} | limits()
    if form.errors:
        return invalid(request, "datasets/add.html", context)
    return render(request, "datasets/add.html", context)


# --- shared by several of them ------------------------------------------------------------------------


def load(request: MemberRequest, name: str) -> Dataset:
    """The workspace's dataset; case does not matter in names."""
    datasets = request.workspace.datasets.kept().select_related("workspace")
    dataset: Dataset = get_object_or_404(datasets, name=name.upper())
    return dataset


def invalid(request: MemberRequest, template: str, context: dict[str, Any]) -> HttpResponseBase:
    """The form with its errors: a fragment for htmx, else the whole page."""
    fragment = f"{template}#form" if request.htmx else template
    response = render(request, fragment, context, status=422)
    response.headers["Vary"] = "HX-Request"
    return response


def limits() -> dict[str, Any]:
    return {"file_max": selectors.size_words(settings.UPLOAD_BYTES_MAX)}


def create_context(request: MemberRequest, form: UploadForm) -> dict[str, Any]:
    found = jobs.with_states(jobs.jobs_of(request.workspace)[: selectors.JOBS_SHOWN])
    context = {"form": form, "jobs": found, "api_base": f"{settings.PUBLIC_URL}/v1"}
    return context | {"no_room": creating.no_room(request.workspace)} | limits()
