"""The team page: who is in the workspace, who is invited, and what admins can change."""

import logging
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from apperate.accounts import services
from apperate.accounts.addresses import client_address
from apperate.accounts.audit import trail
from apperate.accounts.decorators import MemberRequest, workspace_admin, workspace_member
from apperate.accounts.models import Membership, Role
from apperate.accounts.sign_in import mail
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from apperate.team import audit_log as reading
from apperate.team.forms import AuditFilterForm, InviteForm, RoleForm

ORDER = [Role.PRIMARY, Role.ADMIN, Role.USER]
logger = logging.getLogger("apperate.team")


@require_safe
@workspace_member
def members(request: MemberRequest) -> HttpResponse:
    rows = request.workspace.memberships.select_related("user")
    context = {
        "members": sorted(rows, key=lambda one: (ORDER.index(Role(one.role)), one.created_at, one.pk)),
        "invitations": request.workspace.invitations.pending(now=database_now()).select_related("invited_by"),
        "form": InviteForm(),
    }
    return render(request, "team/members.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def invite(request: MemberRequest) -> HttpResponse:
    form = InviteForm(request.POST or None)
    if form.is_valid():
        try:
            outcome = services.invite(workspace=request.workspace, **form.cleaned_data, **acting(request))
        except OSError:
            return not_sent(request, form.cleaned_data["email"])
        if not isinstance(outcome, Refusal):
            if not mail.can_send():
                return no_mail(request, outcome.invitation.email)
            messages.success(request, f"Invitation sent to {outcome.invitation.email}.")
            return redirect("team:members")
        form.add_error("email", outcome.detail)
    return render(request, "team/invite.html", {"form": form}, status=422 if form.is_bound else 200)


@require_POST
@workspace_admin
def invitation_resend(request: MemberRequest, pk: int) -> HttpResponse:
    invitation = get_object_or_404(request.workspace.invitations, pk=pk)
    try:
        outcome = services.resend_invitation(invitation=invitation, **acting(request))
    except OSError:
        return not_sent(request, invitation.email)
    if not isinstance(outcome, Refusal) and not mail.can_send():
        return no_mail(request, invitation.email)
    return told(request, outcome, f"A new link is on its way to {invitation.email}; the old one is dead.")


@require_POST
@workspace_admin
def invitation_withdraw(request: MemberRequest, pk: int) -> HttpResponse:
    invitation = get_object_or_404(request.workspace.invitations, pk=pk)
    outcome = services.withdraw_invitation(invitation=invitation, **acting(request))
    return told(request, outcome, f"The invitation of {invitation.email} is withdrawn.")


@require_POST
@workspace_admin
def member_role(request: MemberRequest, pk: int) -> HttpResponse:
    membership = get_object_or_404(request.workspace.memberships.select_related("user"), pk=pk)
    form = RoleForm(request.POST)
    if not form.is_valid():
        return redirect("team:members")
    outcome = services.change_role(membership=membership, **form.cleaned_data, **acting(request))
    status = Role(form.cleaned_data["role"]).label
    return told(request, outcome, f"{membership.user} has the status {status} now.")


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def member_remove(request: MemberRequest, pk: int) -> HttpResponse:
    """The page that explains what removing means; its button removes."""
    membership = get_object_or_404(request.workspace.memberships.select_related("user"), pk=pk)
    if request.method != "POST":
        tokens = request.workspace.tokens.kept().filter(created_by=membership.user).oldest_first()
        return render(request, "team/remove.html", {"member": membership, "tokens": tokens})
    outcome = services.remove_member(membership=membership, **acting(request))
    return told(request, outcome, f"{membership.user} is no longer in {request.workspace}.")


def acting(request: MemberRequest) -> dict[str, Any]:
    """The arguments every service takes: who, when and from where."""
    return {"by": request.user, "now": database_now(), "address": client_address(request)}


def told(request: MemberRequest, outcome: object, done: str) -> HttpResponse:
    """Back to the team page, with a message saying what was done or why not."""
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.detail)
    else:
        messages.success(request, done)
    still_in = Membership.objects.filter(workspace=request.workspace, user=request.user).exists()
    return redirect("team:members" if still_in else "home")


def not_sent(request: MemberRequest, email: str) -> HttpResponse:
    logger.exception("the invitation could not be sent")
    messages.error(
        request, f"The invitation is saved, but the message to {email} could not be sent. Try “Send again”."
    )
    return redirect("team:members")


def no_mail(request: MemberRequest, email: str) -> HttpResponse:
    """Nobody is shown the link: only a person who reads that address's mail may have it."""
    messages.error(
        request,
        f"The invitation of {email} is saved and was not sent: there is no mail server. When whoever runs "
        "this installation has set EMAIL_URL, choose “Send again”.",
    )
    return redirect("team:members")


# --- the audit log ------------------------------------------------------------------------------------


@require_safe
@workspace_admin
def audit_log(request: MemberRequest) -> HttpResponse:
    form = AuditFilterForm(request.GET)
    is_valid = form.is_valid()
    context = {
        "form": form,
        "page": reading.page_of(request.workspace, form.cleaned_data) if is_valid else None,
        "query": urlencode(form.said()) if is_valid else "",
        "is_first": not form.cleaned_data.get("below"),
        "seal": reading.last_seal(request.workspace),
    }
    return render(request, "team/audit_log.html", context, status=200 if is_valid else 422)


@require_GET
@workspace_admin
def audit_log_export(request: MemberRequest) -> HttpResponseBase:
    """The filtered events as a CSV; exporting is an audit event itself."""
    form = AuditFilterForm(request.GET)
    if not form.is_valid():
        return redirect("team:audit_log")
    now = database_now()
    trail.record(
        "audit_log.exported", workspace=request.workspace, after=form.said(), target="", **acting(request)
    )
    # request.workspace is lazy and needs the session, which is closed by then.
    workspace = request.membership.workspace
    return StreamingHttpResponse(
        reading.csv_parts(workspace, form.cleaned_data | {"below": None}),
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="audit-log-{workspace.name}-{now:%Y-%m-%d}.csv"',
            "Cache-Control": "private, no-store",
        },
    )
