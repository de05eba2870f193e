"""The token pages: the list, the form, and actions that take effect at once."""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

from allauth.account.internal.flows.reauthentication import did_recently_reauthenticate
from django.contrib import messages
from django.http import HttpResponseBase, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers
from django_htmx.http import push_url, reswap, retarget

from apperate.accounts.addresses import client_address
from apperate.accounts.decorators import MemberRequest, workspace_admin, workspace_member
from apperate.dashboard.redirects import go_to
from apperate.dashboard.toasts import changed
from apperate.database.clock import database_now
from apperate.kernel.keyring import UnreadableSecret
from apperate.kernel.refusals import Refusal
from tokens import selectors
from tokens.models import Token
from tokens.pages import contexts
from tokens.pages.forms import NicknameForm, TokenForm
from tokens.pages.widgets import SHOWN_MAX, box_rows
from tokens.services import lifecycle, refusal_fixes

HIDE_SECONDS = 30
fragments = vary_on_headers("HX-Request")  # The same URL answers with a page, or to htmx with a part of it.
logger = logging.getLogger("apperate.tokens")


@require_safe
@workspace_member
def token_list(request: MemberRequest) -> HttpResponseBase:
    context = contexts.list_context(request.workspace, request.GET, now=database_now())
    return render(request, "tokens/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@fragments
@workspace_admin
def token_create(request: MemberRequest) -> HttpResponseBase:
    context: dict[str, Any] = {"delay": contexts.delay_in_words()}
    if request.method != "POST":
        return render(request, "tokens/create.html", context)
    now = database_now()
    token = lifecycle.create_publishable_token(
        workspace=request.workspace, by=request.user, now=now, address=client_address(request)
    )
    if isinstance(token, Refusal):
        context["refusal"] = token
        if request.htmx:
            response = render(request, "tokens/_create_form.html", context, status=422)
            return reswap(retarget(response, "#create-form"), "outerHTML")
        return render(request, "tokens/create.html", context, status=422)
    messages.success(request, f"Publishable token {token.masked} created")
    where = contexts.address_of_newest(request.workspace, token)
    if not request.htmx:
        return redirect(where)
    context = contexts.list_context(
        request.workspace, QueryDict(where.partition("?")[2].partition("#")[0]), now=now
    )
    return push_url(render(request, "tokens/list.html#tokens", context), reverse("tokens:list"))


@require_http_methods(["GET", "HEAD", "POST"])
@fragments
@workspace_member
def token_edit(request: MemberRequest, public_id: str) -> HttpResponseBase:
    now = database_now()
    token = load(request, public_id, now=now)
    if request.method == "POST":
        return token_save(request, token=token, now=now)
    context = contexts.edit_context(request, token, now=now)
    return render(request, "tokens/secret.html" if token.is_secret else "tokens/edit.html", context)


@workspace_admin
def token_save(request: MemberRequest, *, token: Token, now: datetime) -> HttpResponseBase:
    """The form's "Done": saves everything on it, or nothing and says why."""
    save = save_nickname if token.is_secret else save_form
    form, refused = save(request, token, now=now)
    template = "tokens/secret.html" if token.is_secret else "tokens/edit.html"
    if form.errors or refused:
        context = contexts.edit_context(request, token, now=now, form=form)
        fragment = f"{template}#page" if request.htmx else template
        return render(request, fragment, context, status=422)
    if not request.htmx:
        return redirect("tokens:edit", public_id=token.public_id)
    context = contexts.edit_context(request, load(request, token.public_id, now=now), now=now)
    return render(request, f"{template}#page", context)


def save_form(request: MemberRequest, token: Token, *, now: datetime) -> tuple[TokenForm, bool]:
    form = TokenForm(request.POST, token=token, now=now, read_only=bool(token.deleted_at))
    if not form.is_valid():
        return form, True
    outcome = lifecycle.edit_token(
        token=token,
        settings=form.settings(),
        nickname=form.nickname_edit(),
        expires_at=form.expires_at_edit(),
        by=request.user,
        now=now,
        based_on=form.cleaned_data["based_on"],
        address=client_address(request),
    )
    if isinstance(outcome, Refusal):
        form.add_error(None, outcome.detail)
        form.rebase()
        return form, True
    changed(request, contexts.saved_message(outcome, form, now=now))
    return form, False


def save_nickname(request: MemberRequest, token: Token, *, now: datetime) -> tuple[NicknameForm, bool]:
    form = NicknameForm(request.POST)
    if form.is_valid():
        nickname = form.cleaned_data["nickname"]
        lifecycle.set_nickname(
            token=token, nickname=nickname, by=request.user, now=now, address=client_address(request)
        )
        messages.success(request, "Nickname saved")
    return form, not form.is_valid()


@require_safe
@workspace_member
def token_row(request: MemberRequest, public_id: str) -> HttpResponseBase:
    """One row of the list, fetched again when its countdown ends."""
    now = database_now()
    row = selectors.row(load(request, public_id, now=now), now=now)
    return render(request, "tokens/_row.html", {"row": row, "now": now})


@require_safe
@workspace_member
def token_state(request: MemberRequest, public_id: str) -> HttpResponseBase:
    """The head of a token's page, fetched again when its countdown ends."""
    now = database_now()
    token = load(request, public_id, now=now)
    return render(request, "tokens/_state.html", contexts.state_context(token, now=now))


@require_safe
@workspace_member
def token_datasets(request: MemberRequest, public_id: str) -> HttpResponseBase:
    """Rows of the permission picker that match the search, always with the checked ones."""
    token = load(request, public_id, now=database_now())
    words = request.GET.get("q", "").strip()
    found = token.workspace.datasets.filter(deleted_at=None, name__icontains=words).order_by("name")
    names = list(found.values_list("name", flat=True)[:SHOWN_MAX])
    context = {"rows": box_rows(names, request.GET.getlist("perm")), "name": "perm"}
    return render(request, "tokens/widgets/_box_rows.html", context)


def at_once(service: Callable[..., Token | Refusal], message: str) -> Callable[..., HttpResponseBase]:
    """The view of a button that changes a token at once; {} in the message is the token's name."""

    @require_POST
    @fragments
    @workspace_admin
    def view(request: MemberRequest, public_id: str) -> HttpResponseBase:
        return done_at_once(request, public_id, service, message)

    return view


token_undo = at_once(lifecycle.undo_pending, "The pending change is undone")
token_apply_now = at_once(lifecycle.apply_now, "The change is in force")
token_disable = at_once(lifecycle.disable, "{} is disabled: every request is refused")
token_enable = at_once(lifecycle.enable, "{} is enabled")
token_restore = at_once(lifecycle.restore_token, "{} is restored")


@require_POST
@fragments
@workspace_admin
def token_fix(request: MemberRequest, public_id: str) -> HttpResponseBase:
    """Fix a refusal shown on the token's page: allow the site, or grant the dataset."""
    site, dataset = (request.POST.get(name, "") for name in ("site", "dataset"))
    fix = (
        partial(refusal_fixes.grant_read, dataset=dataset)
        if dataset
        else partial(refusal_fixes.allow_site, site=site)
    )
    message = f"Saved. The new settings of {{}} take effect after {contexts.delay_in_words()}."
    return done_at_once(request, public_id, fix, message)


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def token_delete(request: MemberRequest, public_id: str) -> HttpResponseBase:
    now = database_now()
    token = load(request, public_id, now=now)
    if request.method != "POST":
        context = {"row": selectors.row(token, now=now), "token": token, "days": lifecycle.TRASH_DAYS}
        return render(request, "tokens/delete.html", context)
    outcome = lifecycle.delete_token(token=token, by=request.user, now=now, address=client_address(request))
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.detail)
    else:
        name = token.name
        changed(request, f"{name} is in the trash. It can be restored for {lifecycle.TRASH_DAYS} days.")
    return redirect("tokens:list")


@require_POST
@never_cache
@fragments
@workspace_admin
def token_reveal(request: MemberRequest, public_id: str) -> HttpResponseBase:
    """Show the secret value once, to somebody who has just re-entered the password."""
    now = database_now()
    token = get_object_or_404(request.workspace.tokens.filter(kind="secret"), public_id=public_id)
    page = reverse("tokens:edit", args=[public_id])
    if not did_recently_reauthenticate(request):
        return go_to(request, f"{reverse('account_reauthenticate')}?{urlencode({'next': page})}")
    try:
        value = lifecycle.reveal_secret(
            token=token, by=request.user, now=now, address=client_address(request)
        )
    except UnreadableSecret:
        logger.exception("revealing a secret failed token=%s", public_id)
        messages.error(request, "The secret cannot be decrypted. Ask the operator to look at the key ring.")
        return go_to(request, page)
    context = contexts.edit_context(request, token, now=now) | {"value": value, "seconds": HIDE_SECONDS}
    response = render(request, "tokens/_secret_value.html" if request.htmx else "tokens/secret.html", context)
    if not request.htmx:
        response.headers["Refresh"] = f"{HIDE_SECONDS}; url={page}"
    return response


def load(request: MemberRequest, public_id: str, *, now: datetime) -> Token:
    """A token of the current workspace, even in the trash, with what its pages show; else 404."""
    return get_object_or_404(selectors.of_workspace(request.workspace, now=now), public_id=public_id)


def done_at_once(
    request: MemberRequest, public_id: str, service: Callable[..., Token | Refusal], message: str
) -> HttpResponseBase:
    """Run a service that takes effect at once, show its message, and return to the calling page."""
    now = database_now()
    token = load(request, public_id, now=now)
    outcome = service(token=token, by=request.user, now=now, address=client_address(request))
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.detail)
    else:
        changed(request, message.format(token.name))
    if request.htmx:
        row = selectors.row(load(request, public_id, now=now), now=now)
        return render(request, "tokens/_row.html", {"row": row, "now": now, "is_focused": True})
    if request.POST.get("from") == "list":
        return redirect(f"{reverse('tokens:list')}#{public_id}")
    return redirect("tokens:edit", public_id=public_id)
