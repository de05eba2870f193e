"""Actions on a token's value and its copies: rotate, duplicate, and show the signing secret."""

import logging
from typing import Any
from urllib.parse import urlencode

from allauth.account.internal.flows.reauthentication import did_recently_reauthenticate
from django import forms
from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from apperate.accounts.addresses import client_address
from apperate.accounts.decorators import MemberRequest, workspace_admin
from apperate.dashboard.forms import Choices
from apperate.dashboard.toasts import changed
from apperate.database.clock import database_now
from apperate.kernel.keyring import UnreadableSecret
from apperate.kernel.refusals import Refusal
from tokens import selectors
from tokens.models import Token
from tokens.pages.tokens import HIDE_SECONDS, load
from tokens.rules.vocabulary import OVERLAP_SECONDS, OVERLAPS
from tokens.services import lifecycle, rotation

CONFIRMED = "rotate"
logger = logging.getLogger("apperate.tokens")


class RotateForm(forms.Form):
    """How long the old value keeps working. The secret token opens everything, so its form asks twice."""

    overlap = forms.TypedChoiceField(
        label="The old value stops working",
        coerce=int,
        choices=[(seconds, words.capitalize()) for seconds, words in OVERLAPS.items()],
        initial=OVERLAP_SECONDS,
        widget=Choices,
    )
    confirm = forms.CharField(
        label=f"Type “{CONFIRMED}” to confirm",
        max_length=40,
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off", "autocapitalize": "none"}),
    )

    def __init__(self, data: Any = None, *, token: Token) -> None:
        super().__init__(data, label_suffix="")
        if not token.is_secret:
            del self.fields["confirm"]

    def clean_confirm(self) -> str:
        if self.cleaned_data["confirm"].strip().lower() != CONFIRMED:
            raise forms.ValidationError(f"Type the word “{CONFIRMED}”. Nothing was changed.")
        return CONFIRMED


@require_http_methods(["GET", "HEAD", "POST"])
@workspace_admin
def token_rotate(request: MemberRequest, public_id: str) -> HttpResponseBase:
    """A new value. The secret token's is not shown here: its page reveals it, for the password."""
    now = database_now()
    token = load(request, public_id, now=now)
    form = RotateForm(request.POST if request.method == "POST" else None, token=token)
    if not form.is_valid():
        context = {
            "token": token,
            "row": selectors.row(token, now=now),
            "form": form,
            "ends_at": rotation.old_value_ends_at(token, now=now),
        }
        return render(request, "tokens/rotate.html", context, status=422 if form.is_bound else 200)
    outcome = rotation.rotate(
        token=token,
        overlap_seconds=form.cleaned_data["overlap"],
        by=request.user,
        now=now,
        address=client_address(request),
    )
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.detail)
    else:
        words = OVERLAPS[form.cleaned_data["overlap"]]
        changed(request, f"The token has a new value. The old one stops working {words}.")
    return redirect("tokens:edit", public_id=public_id)


@require_POST
@workspace_admin
def token_duplicate(request: MemberRequest, public_id: str) -> HttpResponseBase:
    """Another token with the same settings; opens its page at the name field."""
    now = database_now()
    token = load(request, public_id, now=now)
    copy = lifecycle.duplicate_token(token=token, by=request.user, now=now, address=client_address(request))
    if isinstance(copy, Refusal):
        messages.error(request, copy.detail)
        return redirect("tokens:edit", public_id=public_id)
    messages.success(request, f"{token.name} is duplicated. This is the copy.")
    return redirect("tokens:edit", public_id=copy.public_id)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@workspace_admin
def token_signing_secret(request: MemberRequest, public_id: str) -> HttpResponseBase:
    """Show the signing secret for a while, to somebody who has just re-entered the password."""
    now = database_now()
    token = get_object_or_404(
        selectors.of_workspace(request.workspace, now=now).filter(kind="publishable", deleted_at=None),
        public_id=public_id,
    )
    here = reverse("tokens:signing_secret", args=[public_id])
    context: dict[str, Any] = {"token": token, "row": selectors.row(token, now=now), "seconds": HIDE_SECONDS}
    if request.method != "POST":
        return render(request, "tokens/signing_secret.html", context)
    if not did_recently_reauthenticate(request):
        return redirect(f"{reverse('account_reauthenticate')}?{urlencode({'next': here})}")
    try:
        context["value"] = lifecycle.reveal_signing_secret(
            token=token, by=request.user, now=now, address=client_address(request)
        )
    except UnreadableSecret:
        logger.exception("revealing a signing secret failed token=%s", public_id)
        messages.error(request, "The secret cannot be decrypted. Ask the operator to look at the key ring.")
        return redirect(here)
    response = render(request, "tokens/signing_secret.html", context)
    response.headers["Refresh"] = f"{HIDE_SECONDS}; url={here}"
    return response
