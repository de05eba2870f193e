"""The page of "Test this token": its form uses GET, because testing changes nothing."""

from typing import Any

from django.http import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apperate.accounts.decorators import MemberRequest, workspace_member
from apperate.database.clock import database_now
from tokens.pages import contexts
from tokens.pages.tokens import fragments, load
from tokens.pages.trial_form import TrialForm
from tokens.trials import runs


@require_safe
@never_cache
@fragments
@workspace_member
def token_test(request: MemberRequest, public_id: str) -> HttpResponseBase:
    """How a request would be answered; htmx gets only the result."""
    now = database_now()
    token = load(request, public_id, now=now)
    context: dict[str, Any] = contexts.state_context(token, now=now)
    form = TrialForm(request.GET or None, token=token, has_pending=bool(context["pending"]))
    context["trial_form"] = form
    if form.is_valid():
        report = runs.try_out(token, form.trial(), now=now)
        is_later = form.is_later and report.after is not None
        context |= {"report": report, "is_later": is_later}
        context["result"] = report.after if is_later else report.now
    template = "tokens/_test_result.html" if request.htmx else "tokens/test.html"
    return render(request, template, context, status=422 if form.errors else 200)
