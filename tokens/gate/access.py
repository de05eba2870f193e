"""check_access(): THE ordered list of checks on a request → Allowed | Refusal; the first refusal wins.

While a change is pending, each check applies to both versions of the settings, and both must pass.
Nothing here knows HTTP. A check that raises never passes: the caller's error path refuses.
Source: docs/architecture.md.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from apperate.kernel.refusals import Refusal
from tokens.gate import credits
from tokens.gate.throttling import Rate, Verdict, buckets, rate_of
from tokens.rules import domains, signatures, signing
from tokens.rules.permissions import (
    CORE,
    Action,
    Settings,
    Snapshot,
    Target,
    allows,
    lowest_limit,
    secret_allows,
)
from tokens.rules.signing import Fault, Presented


@dataclass(frozen=True, slots=True)
class Facts:
    """The request facts the checks need. target=None: it is about no dataset."""

    action: Action
    target: Target | None
    referer: str | None = None
    origin: str | None = None
    from_browser: bool = False  # it has an Origin or Sec-Fetch-Site header
    needs_secret: bool = False
    signature: Presented | None = None


@dataclass(frozen=True, slots=True)
class Allowed:
    """Every check passed. `limit`: CORE credits a month; None when what is read has no limit."""

    limit: int | None = None


Versions = tuple[Settings, ...]
Check = Callable[[Snapshot, Versions, Facts, datetime], Refusal | None]


def check_active(token: Snapshot, versions: Versions, facts: Facts, now: datetime) -> Refusal | None:
    """Not deleted, not disabled, not expired, and some version is in force."""
    if token.deleted_at or (token.value_retires_at and token.value_retires_at <= now):
        return Refusal(
            "token-invalid",
            "This token was deleted, or this value of it was replaced by a newer one.",
            check="active",
            needed="the current value, from the API Tokens page",
        )
    if token.disabled_at:
        return Refusal(
            "token-disabled",
            "Its owner has disabled this token. An admin can enable it on the token's form.",
            check="active",
            received=f"disabled since {_time(token.disabled_at)}",
            needed="an enabled token",
        )
    if token.expires_at and token.expires_at <= now:
        return Refusal(
            "token-expired",
            "This token has expired. An admin can set a later expiry on the token's form.",
            check="active",
            received=f"expired at {_time(token.expires_at)}",
            needed="a token that has not expired",
        )
    if not versions:
        return not_active_yet(token, now)
    return None


def check_signature(token: Snapshot, versions: Versions, facts: Facts, now: datetime) -> Refusal | None:
    """If a version requires it, the request is signed with a secret of the token or its workspace."""
    if not any(version.signed_requests for version in versions):
        return None
    if facts.signature is None:
        return signatures.refusal_of(Fault.MISSING, None)
    held = [key for key in token.signing_keys if key.retires_at is None or key.retires_at > now]
    fault = signing.fault(facts.signature, [key.secret for key in held if key.secret is not None])
    if fault is Fault.OTHER_REQUEST and (not held or any(key.secret is None for key in held)):
        return signatures.unreadable()
    return signatures.refusal_of(fault, facts.signature) if fault else None


def check_domain(token: Snapshot, versions: Versions, facts: Facts, now: datetime) -> Refusal | None:
    """The calling page is on every version's list; a secret token must not be used in a page at all."""
    if token.is_secret:
        if facts.from_browser and not token.workspace.allows_secret_in_browser:
            return Refusal(
                "secret-in-browser",
                "A secret token came from a browser, where anyone can read it. Use a publishable token "
                "there, and rotate this one.",
                check="domain",
                received="a request with Origin or Sec-Fetch-Site",
                needed="a publishable token",
            )
        return None
    for version in versions:
        if version.domains_report_only:
            continue
        match = domains.match(version.allowed_domains, referer=facts.referer, origin=facts.origin)
        if not match.allowed:
            return Refusal(
                "domain-not-allowed",
                match.detail,
                check="domain",
                received=_caller(facts),
                needed="a page on one of the token's allowed domains",
            )
    return None


def check_permission(token: Snapshot, versions: Versions, facts: Facts, now: datetime) -> Refusal | None:
    """Every version grants the action on the dataset. A missing dataset is refused in the same words."""
    if facts.needs_secret and not token.is_secret:
        return Refusal(
            "secret-required",
            "Publishable tokens read, write and delete data; this action needs the workspace's secret token.",
            check="permission",
            received="a publishable token",
            needed="the secret token",
        )
    target = facts.target
    if target is None:
        return None
    if token.is_secret:
        may = secret_allows(token.workspace, facts.action, target)
    else:
        may = all(allows(version, token.workspace, facts.action, target) for version in versions)
    return None if may else no_dataset(token, facts.action, target)


def no_dataset(token: Snapshot, action: Action, target: Target) -> Refusal:
    """The one refusal for a dataset that is not granted and for one that does not exist."""
    named = f"{target.workspace}/{target.name}"
    if token.is_secret and target.workspace == token.workspace.name:
        return Refusal(
            "not-found",
            f"There is no dataset {named}.",
            check="permission",
            received=named,
            needed="the id of a dataset of the workspace",
        )
    return Refusal(
        "dataset-not-granted",
        f"The token may not {action} {named}, or there is no such dataset.",
        check="permission",
        received=f"{action} {named}",
        needed="the permission, on the token's form",
    )


# The checks by name, in order; the gate's rate and balance checks come after them.
CHECKS: Mapping[str, Check] = {
    "active": check_active,
    "signature": check_signature,
    "domain": check_domain,
    "permission": check_permission,
}


def first_no(token: Snapshot, versions: Versions, facts: Facts, now: datetime) -> Refusal | None:
    """The first refusal among the checks that need only the snapshot."""
    for check in CHECKS.values():
        if refusal := check(token, versions, facts, now):
            return refusal
    return None


def check_settings(token: Snapshot, facts: Facts, *, now: datetime) -> Refusal | None:
    """first_no() under the versions that count at `now`.

    When the pending version alone would pass, the refusal is "not active yet" and says when to retry.
    """
    versions = token.versions(now=now)
    refusal = first_no(token, versions, facts, now)
    waits = refusal is not None and versions and token.pending and token.waits_until(now=now)
    if waits and token.pending and first_no(token, (token.pending,), facts, now) is None:
        refusal = not_active_yet(token, now)
    return refusal.for_token(token.public_id) if refusal else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one check: a refusal or a pass. Not asked: no version is in force to check against."""

    check: str
    refusal: Refusal | None = None
    is_asked: bool = True

    @property
    def passed(self) -> bool | None:
        return self.refusal is None if self.is_asked else None


def outcomes(token: Snapshot, facts: Facts, *, now: datetime) -> tuple[Outcome, ...]:
    """The result of every check of check_settings(), even after a refusal. The first refusal wins."""
    versions = token.versions(now=now)
    answer = check_settings(token, facts, now=now)
    found = {name: check(token, versions, facts, now) for name, check in CHECKS.items()}
    if answer is not None:
        found[answer.check] = answer  # "Not active yet" replaces the first check's result.
    return tuple(
        Outcome(name, refusal, is_asked=bool(versions) or name == "active") for name, refusal in found.items()
    )


async def check_access(
    token: Snapshot, facts: Facts, rate: Callable[[], Awaitable[Refusal | None]], *, now: datetime
) -> Allowed | Refusal:
    """Whether this token may do this now. `rate` is the caller's rate check: a request counts once.

    Besides `rate`, at most one query, and only for a limited token on CORE. Spending happens elsewhere:
    credits.charge() takes what the answer costs, after the query.
    """
    return check_settings(token, facts, now=now) or await rate() or await check_balance(token, facts, now=now)


async def check_rate(token: Snapshot, *, now: datetime) -> Verdict:
    """Whether the token's rate lets one more request pass. At most one statement."""
    return await buckets.take(token.token_id, rate_at(token, now=now), now=now)


def rate_at(token: Snapshot, *, now: datetime) -> Rate:
    """The rate in effect at `now`."""
    return rate_of(token.versions(now=now), token.workspace.requests_per_second)


async def check_balance(token: Snapshot, facts: Facts, *, now: datetime) -> Allowed | Refusal:
    """Whether the token has credits left for what it reads. At most one query."""
    limit = limit_of(token, facts, now=now)
    if limit is None:
        return Allowed()
    refusal = await credits.check_balance(token.token_id, limit=limit, now=now)
    return refusal.for_token(token.public_id) if refusal else Allowed(limit)


def limit_of(token: Snapshot, facts: Facts, *, now: datetime) -> int | None:
    """The monthly CORE credits that limit a request; None when nothing it reads is limited."""
    reads_core = facts.action is Action.READ and facts.target is not None and facts.target.workspace == CORE
    return lowest_limit(token.versions(now=now)) if reads_core else None


def not_active_yet(token: Snapshot, now: datetime) -> Refusal:
    """The refusal because of a pending change: says when it takes effect."""
    at = token.waits_until(now=now)
    return Refusal(
        "not-active-yet",
        f"The token's settings take effect at {_time(at)}." if at else "The token has no settings in force.",
        check="active",
        needed="the same request after that time",
        retry_after_seconds=max(1, ceil((at - now).total_seconds())) if at else None,
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _caller(facts: Facts) -> str:
    parts = [("Referer", facts.referer), ("Origin", facts.origin)]
    return ", ".join(f"{name}: {_shown(value)}" for name, value in parts if value is not None) or "no Referer"


def _shown(value: str) -> str:
    """A header value cut to a readable length; the rest of a URL may hold something private."""
    plain = "".join(c if " " < c <= "~" else "?" for c in value.split("?")[0])
    return plain if len(plain) <= 120 else plain[:119] + "…"
