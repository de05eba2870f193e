"""Query parameters: how one is described and parsed, and those that all lists share.

    values(pairs, known) -> dict | Refusal      the parsed value of each one present, by name

`undefined`, `null` and empty values are absent, unknown names are ignored, enum values may have any case.
A bad value of a known name is a Refusal that names it, as is one name with two different values. Pure.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from apperate.kernel.ranges import RANGES_NEEDED
from apperate.kernel.refusals import Refusal, invalid_value

LIMIT_MAX = 5_000
COUNT_MAX = 1_000_000_000
ABSENT = frozenset({"", "undefined", "null"})
CURSOR_NEEDED = "the Apperate-Next-Cursor of an answer to the same query"

_COUNT = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One name of the query string.

    `of` names the operations that accept it. `parse` gives the value, or None when the text is not what
    is `needed`. `schema` describes it as JSON Schema. `selects`: it chooses records.
    """

    name: str
    of: tuple[str, ...]
    meaning: str
    example: str
    needed: str
    parse: Callable[[str], Any]
    schema: Mapping[str, Any]
    selects: bool = False

    @property
    def summary(self) -> str:
        """The meaning without the list of accepted values, which `needed` has."""
        return self.meaning.split(":")[0]


def parse_flag(text: str) -> bool | None:
    """The boolean a client wrote: `True`, `true` or `1`, as Python, JavaScript and curl users do."""
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower())


def count_from(lowest: int) -> Callable[[str], int | None]:
    """A parser of whole numbers from `lowest` to one billion."""

    def parse_count(text: str) -> int | None:
        count = int(text) if _COUNT.fullmatch(text) else -1
        return count if lowest <= count <= COUNT_MAX else None

    return parse_count


def one_of(*values: str) -> Callable[[str], str | None]:
    """A parser of the given lower-case words, ignoring case."""
    return lambda text: text.lower() if text.lower() in values else None


def values(
    pairs: Iterable[tuple[str, str]], known: Mapping[str, Parameter], *, forgives: bool = True
) -> dict[str, Any] | Refusal:
    """The parsed value of each known parameter that is present, or the first fault.

    An absent value beside a present one is ignored; with forgives=False it is a conflict.
    """
    texts: dict[str, str] = {}
    for name, text in pairs:
        if name not in known or (text.lower() in ABSENT and forgives):
            continue
        if texts.setdefault(name, text) != text:
            return invalid_value(name, f"{texts[name]} and {text}", "one value")
    parsed: dict[str, Any] = {}
    for name, text in texts.items():
        if text.lower() in ABSENT:
            continue
        value = known[name].parse(text)
        if value is None:
            return invalid_value(name, text, known[name].needed)
        parsed[name] = value
    return parsed


COUNTED = f"a whole number from 1 to {COUNT_MAX:,}; at most {LIMIT_MAX:,} records are returned"
A_FLAG = "true or false"

TEXT: dict[str, Any] = {"type": "string"}
FLAG: dict[str, Any] = {"type": "boolean"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": COUNT_MAX}

LIMIT = Parameter(
    "limit", ("read", "jobs", "list", "tokens"),
    f"at most n records; 1 unless a date is asked for, then {LIMIT_MAX:,}", "100",
    COUNTED, count_from(1), COUNT, selects=True,
)  # fmt: skip
CURSOR = Parameter(
    "cursor", ("read", "tokens"), "go on where an answer ended", "WyJkMmY4", CURSOR_NEEDED, str,
    TEXT, selects=True,
)  # fmt: skip
RANGE = Parameter(
    "range", ("read", "usage"), f"records of a span: {RANGES_NEEDED}", "last-month", RANGES_NEEDED,
    str, TEXT, selects=True,
)  # fmt: skip
