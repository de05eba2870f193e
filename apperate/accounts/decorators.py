"""Who may open a page: each view declares one of these, and a test walks the URLs for one that does not."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from allauth.mfa.models import Authenticator
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django_htmx.middleware import HtmxDetails

from apperate.accounts.models import Membership, Role, User, Workspace

View = TypeVar("View", bound=Callable[..., HttpResponseBase])


class MemberRequest(HttpRequest):
    """A request that passed workspace_member or workspace_admin."""

    user: User
    membership: Membership
    workspace: Workspace
    workspaces: list[Workspace]
    htmx: HtmxDetails


def public(view: View) -> View:
    """Anyone may open it, signed in or not."""
    view.policy = "public"  # type: ignore[attr-defined]
    return view


def any_member(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Like workspace_member, but also for members who still lack the second factor the workspace requires."""
    return _guarded(view, policy="member", needs_manager=False, needs_factor=False)


def workspace_member(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """For members of the current workspace; others sign in, or read why they may not."""
    return _guarded(view, policy="member", needs_manager=False)


def workspace_admin(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """For admins and the primary of the current workspace; others read whom to ask."""
    return _guarded(view, policy="admin", needs_manager=True)


def _guarded(
    view: Callable[..., HttpResponseBase], *, policy: str, needs_manager: bool, needs_factor: bool = True
) -> Callable[..., HttpResponseBase]:
    @wraps(view)
    def guarded(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            # The URL of a POST is not a page to return to.
            return redirect_to_login(request.get_full_path() if request.method == "GET" else "/")
        if not request.membership:
            return render(request, "accounts/no_workspace.html", status=403)
        if needs_factor and request.workspace.requires_second_factor and not has_second_factor(request.user):
            return render(request, "accounts/factor_needed.html", status=403)
        if needs_manager and not request.membership.manages:
            return render(
                request, "accounts/admins_only.html", {"managers": managers(request.workspace)}, status=403
            )
        return view(request, *args, **kwargs)

    guarded.policy = policy  # type: ignore[attr-defined]
    return guarded


def has_second_factor(user: User) -> bool:
    """Whether signing in requires a code from this person besides the password."""
    return Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists()


def managers(workspace: Workspace) -> list[User]:
    """The people who manage a workspace, the primary first."""
    rows = workspace.memberships.filter(role__in=[Role.PRIMARY, Role.ADMIN]).select_related("user")
    return [one.user for one in sorted(rows, key=lambda one: (one.role != Role.PRIMARY, one.pk))]
