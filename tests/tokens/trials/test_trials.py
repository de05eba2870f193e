"""What "Test this token" says: every check, in the gate's order, now and after the activation."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tokens.gate import access
from tokens.gate.access import Facts
from tokens.rules import domains
from tokens.rules.permissions import Action, Settings, SigningKey, Snapshot, Target, WorkspaceFacts
from tokens.rules.token_format import TokenKind
from tokens.rules.vocabulary import Signature
from tokens.trials.judging import Result, Room, Trial, curl, judge

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
MAY, JUNE = date(2026, 5, 1), date(2026, 6, 1)
SOON = NOW + timedelta(seconds=120)
ORDER = ["value", "active", "signature", "domain", "permission", "rate", "credits"]
PRICES, CORE = Target("ACME", "PRICES", 7), Target("CORE", "PRICES", 8)
READS = Settings(grants={7: frozenset({Action.READ})})
SITE = domains.parse_rules("www.example.com")[0]
OPEN = Snapshot(
    1, "tok_1", TokenKind.PUBLISHABLE, "", WorkspaceFacts(1, "ACME", has_premium=False), in_force=READS
)
SECRET = replace(OPEN, kind=TokenKind.SECRET)
READ = Trial("GET", "/v1/data/ACME/PRICES", datasets=(("ACME", "PRICES"),))

SIGNED = replace(READ, signature=Signature.RIGHT)


def judged(token: Snapshot, trial: Trial = READ, target: Target = PRICES, **room: Any) -> Result:
    return judge(token, trial, [target], Room(**room), at=NOW)


def limited(settings: Settings = READS, **changes: Any) -> Snapshot:
    return replace(OPEN, in_force=replace(settings, **changes))


@pytest.mark.parametrize(
    ("result", "check", "code"),
    [
        (judged(OPEN), None, None),
        (judged(SECRET), None, None),
        (judged(replace(OPEN, deleted_at=NOW)), "active", "token-invalid"),
        (judged(replace(OPEN, disabled_at=NOW)), "active", "token-disabled"),
        (judged(replace(OPEN, expires_at=NOW)), "active", "token-expired"),
        (judged(replace(OPEN, in_force=None)), "active", "not-active-yet"),
        (judged(limited(signed_requests=True)), "signature", "signature-required"),
        (judged(limited(signed_requests=True), SIGNED), "signature", "unavailable"),
        (judged(limited(allowed_domains=SITE)), "domain", "domain-not-allowed"),
        (judged(limited(allowed_domains=SITE), replace(READ, origin="https://www.example.com")), None, None),
        (judged(limited(allowed_domains=SITE), replace(READ, referer="http://www.example.com/")), None, None),
        (judged(limited(allowed_domains=SITE), replace(READ, origin="null")), "domain", "domain-not-allowed"),
        (judged(limited(allowed_domains=SITE, domains_report_only=True)), None, None),
        (judged(SECRET, replace(READ, origin="https://a.example")), "domain", "secret-in-browser"),
        (judged(OPEN, replace(READ, action=Action.WRITE)), "permission", "dataset-not-granted"),
        (judged(OPEN, READ, Target("ACME", "NOSUCH", None)), "permission", "dataset-not-granted"),
        (judged(SECRET, READ, Target("ACME", "NOSUCH", None)), "permission", "not-found"),
        (judged(OPEN, replace(READ, needs_secret=True)), "permission", "secret-required"),
        (judged(limited(requests_per_second=1), bucket=(0.5, NOW)), "rate", "rate-limited"),
        (judged(limited(requests_per_second=1), bucket=(0.5, NOW - timedelta(seconds=1))), None, None),
        (judged(limited(core_credit_limit=5), READ, CORE, used={JUNE: 5}), "credits", "credits-exhausted"),
        (judged(limited(core_credit_limit=5), READ, CORE, used={MAY: 5}), None, None),
        (judged(limited(core_credit_limit=0), READ, PRICES), None, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_trial_names_the_check_that_stops_it(result: Result, check: str | None, code: str | None) -> None:
    assert (result.check, result.refusal and result.refusal.code) == (check, code)
    assert result.allowed == (code is None)
    assert [checked.name for checked in result.checks] == ORDER
    assert all(checked.detail for checked in result.checks)
    assert result.refusal is None or result.refusal.token == "tok_1"


def test_checks_after_a_refusal_are_asked_too() -> None:
    token = limited(signed_requests=True, allowed_domains=SITE, requests_per_second=1)

    result = judged(token, replace(READ, action=Action.DELETE), bucket=(0.0, NOW))

    assert [checked.passed for checked in result.checks] == [True, True, False, False, False, False, True]


def test_with_nothing_in_force_the_rest_is_not_asked() -> None:
    result = judged(replace(OPEN, in_force=None, pending=READS, effective_at=SOON))

    assert [checked.passed for checked in result.checks] == [True, False, None, None, None, None, None]


def test_a_pending_version_counts_now_and_alone_afterwards() -> None:
    grants = replace(READS, grants={7: frozenset({Action.READ, Action.WRITE})})
    token = replace(OPEN, pending=grants, effective_at=SOON)
    write = replace(READ, action=Action.WRITE)

    now = judge(token, write, [PRICES], Room(), at=NOW)
    after = judge(token, write, [PRICES], Room(), at=SOON)

    assert now.refusal and now.refusal.code == "not-active-yet" and now.check == "active"
    assert not next(checked for checked in now.checks if checked.name == "permission").passed
    assert after.allowed


def test_a_signed_trial_is_signed_with_a_secret_that_counts() -> None:
    token = replace(limited(signed_requests=True), signing_keys=(SigningKey("sig_kept"),))
    retired = replace(token, signing_keys=(SigningKey("sig_old", retires_at=NOW),))

    assert judged(token, SIGNED).allowed
    refusal = judged(retired, SIGNED).refusal
    assert refusal and refusal.code == "unavailable"


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("origin", [None, "https://www.example.com", "https://evil.example"])
@pytest.mark.parametrize("action", list(Action))
def test_the_first_refusal_of_the_outcomes_is_the_gates_answer(
    action: Action, origin: str | None, signed: bool
) -> None:
    """The tester and the gate cannot drift apart: they ask one list of checks."""
    waiting = replace(READS, signed_requests=signed, allowed_domains=SITE, grants={7: frozenset(Action)})
    for token in (
        OPEN,
        SECRET,
        replace(OPEN, disabled_at=NOW),
        limited(allowed_domains=SITE),
        limited(waiting),
    ):
        for pending in (None, READS, waiting):
            for in_force in (None, token.in_force):
                asked = replace(token, in_force=in_force, pending=pending, effective_at=pending and SOON)
                facts = Facts(action, PRICES, origin=origin, from_browser=origin is not None)

                found = [outcome.refusal for outcome in access.outcomes(asked, facts, now=NOW)]

                first = next((refusal for refusal in found if refusal), None)
                assert (first and first.for_token("tok_1")) == access.check_settings(asked, facts, now=NOW)


def test_curl_lets_the_shell_expand_nothing_that_was_typed() -> None:
    trial = replace(READ, origin="https://a.example'; $(id) `id` \"", method="POST", body="[]")

    command = curl(trial, address="https://api.example", value="pk_1")

    assert "'Authorization: Bearer pk_1'" in command
    assert """'Origin: https://a.example'"'"'; $(id) `id` "'""" in command
    assert "$APPERATE" in curl(READ, address="https://api.example", value="$APPERATE_SECRET_TOKEN")
    assert "X-API-Key: pk_1" in curl(SIGNED, address="", value="pk_1")
