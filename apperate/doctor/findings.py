"""What a check answers with, and how it says things.

A finding is "ok", "warn" (it works, but could be better) or "fail" (something will not work), with what to
do. No finding contains a password, a key or a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"
NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `advice` says what to do; empty when all is well."""

    level: str
    subject: str
    detail: str
    advice: str = ""


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def some_of(names: Sequence[str], *, what: str = "") -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMED_MAX:,} {what}more" if len(names) > NAMED_MAX else ""
    return f"{', '.join(names[:NAMED_MAX])}{more}"
