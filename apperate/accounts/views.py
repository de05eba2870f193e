"""Joining a workspace by invitation, and switching between workspaces."""

from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from apperate.accounts import preconditions, services
from apperate.accounts.addresses import client_address
from apperate.accounts.decorators import MemberRequest, any_member, public
from apperate.accounts.middleware import look_at
from apperate.accounts.models import Invitation, Membership, User, Workspace
from apperate.accounts.sign_in.forms import JoinForm
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal


@require_POST
@any_member
def workspace_switch(request: MemberRequest, name: str) -> HttpResponse:
    workspace = get_object_or_404(Workspace.objects.of(request.user), name=name)
    look_at(request, workspace)
    return redirect("home")


@public
@require_http_methods(["GET", "HEAD", "POST"])
def invitation_accept(request: HttpRequest, token: str) -> HttpResponse:
    """The page behind an invitation's link: opening it changes nothing, its button joins."""
    now = database_now()
    invitation = services.find_invitation(token)
    if invitation is None:
        return invitation_refused(
            request, Refusal("not-found", "This link belongs to no invitation, or a newer one was sent.")
        )
    if refusal := preconditions.unusable(invitation, now=now):
        return invitation_refused(request, refusal)
    if request.user.is_authenticated:
        return join_as_signed_in(request, invitation, token)
    if User.objects.filter(email__iexact=invitation.email).exists():
        return render(request, "accounts/join_sign_in.html", {"invitation": invitation})
    return join_as_new(request, invitation, token)


def invitation_refused(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    status = 404 if refusal.code == "not-found" else 410
    return render(request, "accounts/join_refused.html", {"refusal": refusal}, status=status)


def join_as_signed_in(request: Any, invitation: Invitation, token: str) -> HttpResponse:
    if not preconditions.owns(request.user, invitation.email):
        return render(request, "accounts/join_other_address.html", {"invitation": invitation}, status=403)
    if request.method != "POST":
        return render(request, "accounts/join_confirm.html", {"invitation": invitation})
    joined = services.accept_invitation(
        token=token, user=request.user, now=database_now(), address=client_address(request)
    )
    if isinstance(joined, Refusal):
        return invitation_refused(request, joined)
    return welcome(request, joined)


def join_as_new(request: Any, invitation: Invitation, token: str) -> HttpResponse:
    form = JoinForm(request.POST or None, email=invitation.email)
    if request.method == "POST" and form.is_valid():
        joined = services.accept_invitation(
            token=token, now=database_now(), address=client_address(request), **form.cleaned_data
        )
        if isinstance(joined, Refusal):
            return invitation_refused(request, joined)
        record_authentication(request, joined.user, method="password", email=joined.user.email)
        perform_login(request, joined.user, email_verification="none", signup=True)
        return welcome(request, joined)
    status = 422 if form.is_bound else 200
    return render(request, "accounts/join_new.html", {"invitation": invitation, "form": form}, status=status)


def welcome(request: HttpRequest, membership: Membership) -> HttpResponse:
    look_at(request, membership.workspace)
    messages.success(request, f"Welcome to {membership.workspace}.")
    return redirect("home")
