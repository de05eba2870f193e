"""judge(): a token's checks applied to a request that is described but not sent: "Test this token".

    judge(snapshot, trial, targets, room, at=…) -> Result      every check, in the order of the gate
    curl(trial, …) -> str                                      the same request as a shell command

The checks are those of access.py. Nothing is written, charged or counted against the rate, and the
result contains no secret. Source: docs/decisions/0007-refusals-are-values.md.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from urllib.parse import urlsplit

from apperate.database.clock import month_of
from apperate.kernel.refusals import Refusal
from tokens.gate import access, credits
from tokens.gate.access import Facts, Outcome
from tokens.gate.throttling import Verdict, verdict_of
from tokens.rules import signing
from tokens.rules.permissions import Action, Snapshot, Target
from tokens.rules.signing import Presented
from tokens.rules.vocabulary import Signature

SECRET_PLACEHOLDER = "$APPERATE_SECRET_TOKEN"  # noqa: S105  Stands for a secret in examples.
NOT_ASKED = "Not asked: the token has no settings in force."


SLOW_CLOCK = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Trial:
    """A request as it would be sent. `path` includes the query; `datasets`: (workspace, name) in capitals."""

    method: str
    path: str
    action: Action = Action.READ
    datasets: tuple[tuple[str, str], ...] = ()
    needs_secret: bool = False
    origin: str | None = None
    referer: str | None = None
    signature: Signature = Signature.NONE
    body: str = ""

    @property
    def is_signed(self) -> bool:
        return self.signature is not Signature.NONE


@dataclass(frozen=True, slots=True)
class Room:
    """What a token has left: its bucket's row (None: full), and its spending in a month."""

    bucket: tuple[float, datetime] | None = None
    used: Mapping[date, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """A check with its outcome and a sentence about it. `passed` is None when it could not be applied."""

    name: str
    passed: bool | None
    detail: str
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """All checks at one moment; the request would be answered with the first refusal."""

    at: datetime
    checks: tuple[Checked, ...]

    @property
    def refusal(self) -> Refusal | None:
        return next((checked.refusal for checked in self.checks if checked.refusal), None)

    @property
    def check(self) -> str | None:
        """The name of the check that stops the request."""
        return next((checked.name for checked in self.checks if checked.refusal), None)

    @property
    def allowed(self) -> bool:
        return self.refusal is None


def judge(token: Snapshot, trial: Trial, targets: Sequence[Target], room: Room, *, at: datetime) -> Result:
    """The result of each check at `at`; with several datasets, the first refusal of each check."""
    signature = _signature(token, trial, at) if trial.is_signed else None
    asked = [_facts(trial, target, signature) for target in targets or (None,)]
    by_facts = [access.outcomes(token, facts, now=at) for facts in asked]
    found = [Outcome("value")]  # The token was found, so its value is right.
    found += [next((one for one in same if one.refusal), same[0]) for same in zip(*by_facts, strict=True)]
    is_asked = bool(token.versions(now=at))
    rate = _rate(token, room, at)
    found.append(Outcome("rate", rate.refusal(), is_asked))
    limits = [access.limit_of(token, facts, now=at) for facts in asked]
    limit = next((limit for limit in limits if limit is not None), None)
    used = room.used.get(month_of(at).date(), 0)
    no = None if limit is None else credits.refusal_of(used, limit=limit, now=at)
    found.append(Outcome("credits", no, is_asked))
    words = _in_words(token, trial, rate, limit, used, at)
    return Result(at, tuple(_checked(token, outcome, words[outcome.check]) for outcome in found))


def curl(trial: Trial, *, address: str, value: str) -> str:
    """The request as a shell command. `value`: the token's, or the `$NAME` of a variable holding a secret."""
    # The shell expands double-quoted text, so only a variable of ours is ever put there.
    quoted = '"{}"' if value.startswith("$") else "'{}'"
    place = "X-API-Key" if trial.is_signed else "Authorization: Bearer"
    header = quoted.format(f"{place}{': ' if trial.is_signed else ' '}{value}")
    parts = [f"-H {header}"]
    if trial.is_signed:
        parts += ['-H "x-iex-date: $IEX_DATE"', '-H "Authorization: $IEX_AUTHORIZATION"']
    parts += [
        f"-H {shlex.quote(f'{name}: {text}')}"
        for name, text in (("Origin", trial.origin), ("Referer", trial.referer))
        if text is not None
    ]
    if trial.body:
        parts += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(trial.body)}"]
    method = {"GET": "", "HEAD": "-I "}.get(trial.method, f"-X {trial.method} ")
    return " \\\n  ".join([f"curl {method}{shlex.quote(address + trial.path)}", *parts])


def _facts(trial: Trial, target: Target | None, signature: Presented | None) -> Facts:
    return Facts(
        action=trial.action,
        target=target,
        referer=trial.referer,
        origin=trial.origin,
        from_browser=trial.origin is not None,
        needs_secret=trial.needs_secret,
        signature=signature,
    )


def _signature(token: Snapshot, trial: Trial, at: datetime) -> Presented:
    """A signature as the token's holder would make it: with the token's own secret when it has one.

    If no secret can be read, an invalid one.
    """
    is_slow = trial.signature is Signature.SLOW_CLOCK
    held = [key for key in token.signing_keys if key.retires_at is None or key.retires_at > at]
    keys = [key.secret for key in [key for key in held if key.is_own] or held]
    known = None if trial.signature is Signature.OTHER_SECRET else next(filter(None, keys), None)
    target = urlsplit(trial.path)
    request = signing.Request(
        method=trial.method,
        path=target.path.encode(),
        query=target.query.encode(),
        host=b"localhost",
        date=signing.date_of(at - SLOW_CLOCK if is_slow else at),
    )
    header = signing.authorization(request, known or signing.new_secret(), token.public_id)
    return Presented(request, header, token.public_id, received_at=at)


def _rate(token: Snapshot, room: Room, at: datetime) -> Verdict:
    rate = access.rate_at(token, now=at)
    level, filled_at = room.bucket or (float(rate.burst), at)
    return verdict_of(rate, level, filled_at, now=at)


def _checked(token: Snapshot, outcome: Outcome, words: str) -> Checked:
    refusal = outcome.refusal.for_token(token.public_id) if outcome.refusal else None
    if not outcome.is_asked:
        return Checked(outcome.check, None, NOT_ASKED)
    return Checked(outcome.check, outcome.passed, refusal.detail if refusal else words, refusal)


def _in_words(
    token: Snapshot, trial: Trial, rate: Verdict, limit: int | None, used: int, at: datetime
) -> dict[str, str]:
    """Why each check passes, when it does."""
    left = max(0, (limit or 0) - used)
    named = ", ".join(f"{workspace}/{name}" for workspace, name in trial.datasets)
    return {
        "value": "The request carries the token’s current value.",
        "active": "The token is enabled, has not expired, and its settings are in force.",
        "signature": "It is signed as the token asks for."
        if token.signs(now=at)
        else "The token takes requests without a signature.",
        "domain": _domain_in_words(token, trial, at),
        "permission": f"The token may {trial.action} {named}." if named else "No dataset is concerned.",
        "rate": f"{rate.rate.per_second:,} requests a second, {rate.rate.burst:,} at once; "
        f"{rate.remaining:,} could come at that moment.",
        "credits": "No credit limit holds for this request."
        if limit is None
        else f"{left:,} of {limit:,} Core credits are left this month.",
    }


def _domain_in_words(token: Snapshot, trial: Trial, at: datetime) -> str:
    if token.is_secret:
        in_browser = "The workspace lets its secret token be used in browsers."
        return in_browser if trial.origin is not None else "It does not come from a browser."
    versions = [version for version in token.versions(now=at) if version.allowed_domains]
    if not versions:
        return "The token may be used on any page."
    if all(version.domains_report_only for version in versions):
        return "The allowed domains are report-only: every page may call."
    return "The page is on one of the token’s allowed domains."
