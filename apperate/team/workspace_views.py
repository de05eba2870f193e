"""The page of a workspace as a whole: what it is called, and where its alerts go."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from apperate.accounts.decorators import MemberRequest, workspace_admin, workspace_member
from apperate.refusals import Refusal
from apperate.team.forms import WebhookForm
from apperate.team.views import acting
from tokens import webhook_settings
from tokens.alert_models import Webhook
from tokens.keyring import UnreadableSecret
from tokens.webhook_settings import Saved


def page(
    request: MemberRequest, *, form: WebhookForm | None = None, secret: str = "", status: int = 200
) -> HttpResponse:
    """The page; `secret` is in it once, in the answer to what made it."""
    webhook = Webhook.objects.filter(workspace=request.workspace).first()
    form = form or WebhookForm(initial={"url": webhook.url if webhook else ""})
    context = {"webhook": webhook, "form": form, "secret": secret}
    return render(request, "team/workspace.html", context, status=status)


@require_safe
@workspace_member
def workspace(request: MemberRequest) -> HttpResponse:
    return page(request)


@require_POST
@workspace_admin
def webhook_save(request: MemberRequest) -> HttpResponse:
    form = WebhookForm(request.POST)
    if not form.is_valid():
        return page(request, form=form, status=422)
    outcome = webhook_settings.save(workspace=request.workspace, **form.cleaned_data, **acting(request))
    return told(request, outcome, "Alerts go to this address now.")


@require_POST
@workspace_admin
def webhook_secret(request: MemberRequest) -> HttpResponse:
    outcome = webhook_settings.renew_secret(workspace=request.workspace, **acting(request))
    return told(request, outcome, "The next message is signed with the new secret.")


@require_POST
@workspace_admin
def webhook_remove(request: MemberRequest) -> HttpResponse:
    outcome = webhook_settings.remove(workspace=request.workspace, **acting(request))
    return told(request, outcome, "The webhook is removed.")


@require_POST
@workspace_admin
def webhook_test(request: MemberRequest) -> HttpResponse:
    """Sends a message and says what came of it."""
    try:
        outcome = webhook_settings.send_test(workspace=request.workspace, **acting(request))
    except UnreadableSecret as error:
        outcome = str(error)
    if isinstance(outcome, str) and outcome:
        messages.error(request, f"The test was not taken. {outcome}")
        return redirect("team:workspace")
    return told(request, outcome, "The test was taken.")


def told(request: MemberRequest, outcome: object, done: str) -> HttpResponse:
    """The page with a new secret; else back to it with the message of what was done, or why it was not."""
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.detail)
    elif isinstance(outcome, Saved) and outcome.secret:
        return page(request, secret=outcome.secret)
    else:
        messages.success(request, done)
    return redirect("team:workspace")
