"""The workspace page: its plan, its security switches, and where its alerts go."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from apperate.accounts.decorators import MemberRequest, workspace_admin, workspace_member
from apperate.dashboard.toasts import changed
from apperate.kernel.dates import seconds_in_words
from apperate.kernel.keyring import UnreadableSecret
from apperate.kernel.refusals import Refusal
from apperate.team import workspace_settings
from apperate.team.forms import SecurityForm, WebhookForm
from apperate.team.views import acting
from datasets.selectors import stored_by
from tokens.alert_models import Webhook
from tokens.alerts import webhook_settings
from tokens.alerts.webhook_settings import Saved


def page(
    request: MemberRequest,
    *,
    form: WebhookForm | None = None,
    security: SecurityForm | None = None,
    secret: str = "",
    status: int = 200,
) -> HttpResponse:
    """The page; `secret` is shown once, in the answer to what made it."""
    workspace = request.workspace
    webhook = Webhook.objects.filter(workspace=workspace).first()
    security = security or SecurityForm(
        initial={
            "refuses_secret_in_browser": not workspace.allows_secret_in_browser,
            "requires_second_factor": workspace.requires_second_factor,
        }
    )
    for field in security.fields.values():
        field.disabled = not request.membership.manages
    context = {
        "plan": workspace.limits,
        "tokens": workspace.tokens.kept().count(),
        "datasets": workspace.datasets.filter(deleted_at=None).count(),
        "storage": stored_by(workspace),
        "delay": seconds_in_words(settings.ACTIVATION_SECONDS),
        "security": security,
        "webhook": webhook,
        "form": form or WebhookForm(initial={"url": webhook.url if webhook else ""}),
        "secret": secret,
    }
    return render(request, "team/workspace.html", context, status=status)


@require_safe
@workspace_member
def workspace(request: MemberRequest) -> HttpResponse:
    return page(request)


@require_POST
@workspace_admin
def security_save(request: MemberRequest) -> HttpResponse:
    form = SecurityForm(request.POST)
    form.full_clean()
    outcome = workspace_settings.save_security(
        workspace=request.membership.workspace, security=form.security, **acting(request)
    )
    if isinstance(outcome, Refusal):
        form.add_error("requires_second_factor", outcome.detail)
        return page(request, security=form, status=422)
    changed(request, "Saved. It holds from now on." if outcome else "Nothing had changed")
    return redirect("team:workspace")


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
    """Send a test message and report the result."""
    try:
        outcome = webhook_settings.send_test(workspace=request.workspace, **acting(request))
    except UnreadableSecret as error:
        outcome = str(error)
    if isinstance(outcome, str) and outcome:
        messages.error(request, f"The test was not taken. {outcome}")
        return redirect("team:workspace")
    return told(request, outcome, "The test was taken.")


def told(request: MemberRequest, outcome: object, done: str) -> HttpResponse:
    """The page with a new secret; else a redirect to it with a message saying what was done or why not."""
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.detail)
    elif isinstance(outcome, Saved) and outcome.secret:
        return page(request, secret=outcome.secret)
    else:
        messages.success(request, done)
    return redirect("team:workspace")
