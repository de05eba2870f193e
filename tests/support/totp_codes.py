"""Codes of a second factor, at a time that stands still."""

import pytest
from allauth.mfa.totp.internal import auth as totp

COUNTER = 59_000_000


def hold_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one code be right, however long the test takes."""
    monkeypatch.setattr(totp, "yield_hotp_counters_from_time", lambda: iter([COUNTER]))


def code_of(secret: str) -> str:
    """What an authenticator app shows that has this secret."""
    return totp.format_hotp_value(totp.hotp_value(secret, COUNTER))
