"""The docs page of a dataset: how to call it, as code for the viewer's own token, and a form to try it."""

from django.http import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from apperate.accounts.decorators import MemberRequest, workspace_member
from apperate.database.clock import database_now
from datasets import selectors
from datasets.pages import docs
from datasets.pages.datasets import load
from datasets.query import parameters


@require_safe
@workspace_member
def dataset_docs(request: MemberRequest, name: str) -> HttpResponseBase:
    """Sent by its own form: htmx gets the request alone, and the page then asks the API for its answer."""
    dataset = load(request, name)
    asked = docs.request_of(dataset, request.GET.dict(), now=database_now())
    context = {
        "dataset": dataset,
        "asked": asked,
        "columns": selectors.columns_of(dataset),
        "parameters": list(parameters.of("read").values()),
        "refusals": docs.refusals(),
    }
    response = render(
        request, "datasets/docs.html#request" if request.htmx else "datasets/docs.html", context
    )
    response.headers["Vary"] = "HX-Request"
    return response
