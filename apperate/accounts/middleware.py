"""CurrentWorkspace: the workspace a person is looking at. AuditAddress: the client address for audit rows."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

from apperate.accounts.addresses import client_address
from apperate.accounts.audit import trail
from apperate.accounts.models import Membership, Workspace

SESSION_KEY = "workspace"


class CurrentWorkspace:
    """Sets request.membership, request.workspace and request.workspaces; one query, on first use.

    The session names a workspace, but a membership decides: once removed, a person cannot open it by its name
    in the session. Without a name the first workspace by title is taken; without memberships all are empty.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponse:
        memberships = SimpleLazyObject(lambda: memberships_of(request))
        membership = SimpleLazyObject(lambda: current(request, memberships))
        request.membership = membership
        request.workspace = SimpleLazyObject(lambda: membership.workspace if membership else None)
        request.workspaces = SimpleLazyObject(lambda: [one.workspace for one in memberships])
        return self.get_response(request)


class AuditAddress:
    """Gives audit rows the address of the request that wrote them."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with trail.asked_by(address=client_address(request)):
            return self.get_response(request)


def memberships_of(request: Any) -> list[Membership]:
    """The memberships of the signed-in person, by title of the workspace."""
    if not request.user.is_authenticated:
        return []
    rows = Membership.objects.filter(user=request.user).select_related("workspace")
    return list(rows.order_by("workspace__title", "workspace_id"))


def current(request: Any, memberships: Any) -> Membership | None:
    if not memberships:
        return None
    wanted = request.session.get(SESSION_KEY)
    return next((one for one in memberships if one.workspace_id == wanted), memberships[0])


def look_at(request: Any, workspace: Workspace) -> None:
    """Make this the session's workspace. The caller has checked the membership."""
    request.session[SESSION_KEY] = workspace.pk
