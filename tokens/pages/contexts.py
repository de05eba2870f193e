"""The template contexts of the token pages."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.conf import settings as django_settings
from django.http import QueryDict
from django.urls import reverse

from apperate.accounts.decorators import MemberRequest
from apperate.accounts.models import Workspace
from apperate.database.clock import next_month
from apperate.kernel.dates import seconds_in_words
from tokens import selectors
from tokens.gate.refusal_log import SITE_CHARS_MAX
from tokens.models import Token
from tokens.pages import seen_callers
from tokens.pages.forms import NicknameForm, TokenForm
from tokens.pages.trial_form import TrialForm
from tokens.rules import domains
from tokens.rules.domains import DomainRule
from tokens.rules.permissions import Settings
from tokens.selectors import LISTED, PAGE_ROWS
from tokens.services import refusal_fixes, saved_settings
from tokens.services.lifecycle import Saved
from tokens.trials.judging import SECRET_PLACEHOLDER
from tokens.usage import forecasts

TABS = (("", "All", "all"), ("publishable", "Publishable", "publishable"), ("secret", "Secret", "secret"))


def list_context(workspace: Workspace, query: QueryDict, *, now: datetime) -> dict[str, Any]:
    """One page of the list.

    `query`: kind, status, q (part of a name or token), page, new (a token to highlight).
    """
    kind, words = query.get("kind", ""), query.get("q", "").strip()[:100]
    status = query.get("status", "") if kind != "trash" and query.get("status") in LISTED else ""
    counts = selectors.counts(workspace, now=now)
    tokens = selectors.filtered(
        selectors.of_workspace(workspace, now=now), kind=kind, status=status, query=words, now=now
    )
    total = tokens.count() if words or status else counts[kind if kind in counts else "all"]
    last = selectors.page_of(total)
    page = query.get("page", "1")
    number = min(int(page), last) if page.isascii() and page.isdigit() and len(page) < 7 and int(page) else 1
    start = (number - 1) * PAGE_ROWS
    tabs = TABS + ((("trash", "Trash", "trash"),) if counts["trash"] or kind == "trash" else ())
    return {
        "rows": [selectors.row(token, now=now) for token in tokens[start : start + PAGE_ROWS]],
        "now": now,
        "tabs": [
            (address(kind=value, status=status, q=words), title, counts[name], value == kind)
            for value, title, name in tabs
        ],
        "kind": kind,
        "status": status,
        "statuses": [(one.value, one.label, one == status) for one in LISTED],
        "words": words,
        "counts": counts,
        "total": total,
        "page": number,
        "pages": [
            (address(kind=kind, status=status, q=words, page=str(one)), one) for one in range(1, last + 1)
        ],
        "new": query.get("new", ""),
        "delay": delay_in_words(),
    }


def address(**query: str) -> str:
    """The list's address with these parameters; empty ones are left out."""
    said = urlencode({name: value for name, value in query.items() if value})
    return f"{reverse('tokens:list')}{'?' if said else ''}{said}"


def address_of_newest(workspace: Workspace, token: Token) -> str:
    """The list's address that shows a new token: at the end of its last page."""
    kept = workspace.tokens.filter(deleted_at=None).count()
    page = str(selectors.page_of(kept)) if kept > PAGE_ROWS else ""
    return f"{address(page=page, new=token.public_id)}#{token.public_id}"


def state_context(token: Token, *, now: datetime) -> dict[str, Any]:
    """The head of a token's page: status, pending changes, and what stops it."""
    return {
        "token": token,
        "row": selectors.row(token, now=now),
        "pending": selectors.pending(token, now=now),
        "now": now,
        "resets_at": next_month(now),
        "delay": delay_in_words(),
    }


def edit_context(
    request: MemberRequest, token: Token, *, now: datetime, form: TokenForm | NicknameForm | None = None
) -> dict[str, Any]:
    """A token's page with its form: the given one with its errors, else the last saved settings."""
    revision = token.versions(now=now).saved
    settings = saved_settings.of_revision(revision) if revision else Settings()
    read_only = not request.membership.manages or token.deleted_at is not None
    if form is None and token.is_secret:
        form = NicknameForm(initial={"nickname": token.nickname})
        form.fields["nickname"].disabled = read_only
    elif form is None:
        shows_all = request.GET.get("datasets") == "all"
        form = TokenForm(token=token, now=now, read_only=read_only, shows_all=shows_all)
    added_site = add_site(form, request.GET.get("add", "")) if not read_only else ""
    callers = [] if token.is_secret else seen_callers.seen(token, settings, now=now, may_edit=not read_only)
    shown = example(token, settings)
    state = state_context(token, now=now)
    usage = state["row"].usage
    return state | {
        "outlook": forecasts.outlook(usage.used, usage.limit, now=now),
        "form": form,
        "read_only": read_only,
        "activity": selectors.activity(token, now=now),
        "example": shown,
        "trial_form": TrialForm(token=token, has_pending=bool(state["pending"]), dataset=shown["dataset"]),
        "added_site": added_site,
        "callers": callers,
        "callers_unlisted": any(caller.is_allowed is False for caller in callers),
        "reports_only": settings.domains_report_only,
        "refusals": refusal_fixes.groups(token, settings, may_edit=not read_only),
    }


def add_site(form: TokenForm | NicknameForm | None, site: str) -> str:
    """Add a site to the domains shown in a form, without saving it; returns the site if it was added."""
    rule = domains.parse_rule(site) if len(site) <= SITE_CHARS_MAX else None
    if not isinstance(form, TokenForm) or form.is_bound or not isinstance(rule, DomainRule):
        return ""
    lines = form.initial["allowed_domains"].splitlines()
    if site not in lines:
        form.initial["allowed_domains"] = "\n".join([*lines, site])
    return site


def example(token: Token, settings: Settings) -> dict[str, Any]:
    """A request with this token in three languages; a secret value is never written out."""
    dataset = selectors.example_dataset(token, settings)
    url = f"{django_settings.PUBLIC_URL}/v1/data/{dataset}"
    value = SECRET_PLACEHOLDER if token.is_secret else token.value
    return {"dataset": dataset, "url": url, "value": value, "is_signed": settings.signed_requests}


def saved_message(outcome: Saved, form: TokenForm, *, now: datetime) -> str:
    """The toast after "Done"."""
    if outcome.revision and outcome.revision.effective_at > now:
        return f"Saved. The new settings take effect at {outcome.revision.effective_at:%H:%M:%S} UTC."
    if outcome.revision or form.nickname_edit() or form.expires_at_edit():
        return "Saved"
    return "Nothing had changed"


def delay_in_words() -> str:
    """The activation delay in words."""
    return seconds_in_words(django_settings.ACTIVATION_SECONDS)
