"""The first minutes: one page from an empty workspace to a request that was served."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from apperate.accounts.addresses import client_address
from apperate.accounts.decorators import MemberRequest, workspace_admin, workspace_member
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.pages import start


@require_safe
@vary_on_headers("HX-Request")
@workspace_member
def first_steps(request: MemberRequest) -> HttpResponseBase:
    """The steps, ticked off by what there is; htmx asks for them again until a call has come."""
    now = database_now()
    steps = start.steps_of(request.workspace, now=now)
    context = {"steps": steps, "now": now, "api_base": f"{settings.PUBLIC_URL}/v1"}
    return render(request, "datasets/start.html#steps" if request.htmx else "datasets/start.html", context)


@require_POST
@workspace_admin
def start_sample(request: MemberRequest) -> HttpResponseBase:
    # The lazy object is another class than the row that the job points to.
    job = start.add_sample(request.membership.workspace, by=request.user, now=database_now())
    if isinstance(job, Refusal):
        messages.error(request, job.detail)
    else:
        messages.success(request, f"{start.SAMPLE_NAME} is made, and its records are being read.")
    return redirect("datasets:start")


@require_POST
@workspace_admin
def start_token(request: MemberRequest) -> HttpResponseBase:
    token = start.add_token(
        request.membership.workspace, by=request.user, now=database_now(), address=client_address(request)
    )
    if isinstance(token, Refusal):
        messages.error(request, token.detail)
    else:
        messages.success(request, f"Publishable token {token.masked} created")
    return redirect("datasets:start")
