"""Choosing the workspace one looks at."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from apperate.accounts.decorators import MemberRequest, workspace_member
from apperate.accounts.middleware import look_at
from apperate.accounts.models import Workspace


@require_POST
@workspace_member
def workspace_switch(request: MemberRequest, name: str) -> HttpResponse:
    workspace = get_object_or_404(Workspace.objects.of(request.user), name=name)
    look_at(request, workspace)
    return redirect("home")
