"""Time spans: what `on`, `from`, `to` and `range` mean, as half-open [start, end) in UTC. Pure.

A day or a year as a bound is taken whole: `to=2020-01-31` ends before 2020-02-01. A moment as a bound
is included to the microsecond. Weeks run Sunday to Saturday. Source: docs/query-parameters.md.
"""

import re
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from apperate.kernel.dates import DATE_CHARS, day_of, parse_iso

DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS_IN_QUARTER = 3
DATES_NEEDED = "a date like 2024-02-29, 20240229, 2024-02-29T12:30:00Z, a year, or milliseconds since 1970"
RANGES_NEEDED = (
    "today, yesterday, ytd, last-week, last-month, last-quarter, a number with d, w, m, q or y, "
    "Q1 to Q4 or H1 or H2 with a year, a year, or with calendar=true tomorrow, this-week, this-month, "
    "this-quarter, next-week, next-month, next-quarter"
)

_BASIC_DATE = re.compile(r"[0-9]{8}")
_YEAR = re.compile(r"[0-9]{4}")
_EPOCH_MS = re.compile(r"0|-?[0-9]{9,15}")
_LOST_PLUS = re.compile(r"T[0-9:.,]+ [0-9]{2}:?[0-9]{2}")
_COUNTED = re.compile(r"([0-9]{1,5})([dwmqy])")
_NAMED = re.compile(r"(?:(q)([1-4])|(h)([12]))?([0-9]{4})")
_FORWARD = frozenset({"tomorrow", "this-week", "this-month", "this-quarter"}) | {
    "next-week",
    "next-month",
    "next-quarter",
}


class Span(NamedTuple):
    """The moments from `start` on and before `end`; None means no bound."""

    start: datetime | None
    end: datetime | None


def parse_day_or_moment(text: str) -> Span | None:
    """The span of a bound: a whole UTC year or day, or one moment; None when it is not a date."""
    if _YEAR.fullmatch(text):
        return _named(int(text), quarter=None, half=None)
    if _BASIC_DATE.fullmatch(text):
        moment = parse_iso(f"{text[:4]}-{text[4:6]}-{text[6:]}")
        return None if moment is None else day_span(moment)
    if _EPOCH_MS.fullmatch(text):
        try:
            moment = EPOCH + timedelta(milliseconds=int(text))
        except OverflowError:
            return None
        return Span(moment, later(moment, MOMENT))
    text = text.upper()
    if _LOST_PLUS.fullmatch(text[DATE_CHARS:]):
        # A plus sign that the client did not escape arrives as a space.
        text = "+".join(text.rsplit(" ", 1))
    moment = parse_iso(text)
    if moment is None:
        return None
    return day_span(moment) if len(text) == DATE_CHARS else Span(moment, later(moment, MOMENT))


def parse_day(text: str) -> Span | None:
    """The whole UTC day that contains a date or a moment; a year's first day. None when it is not a date."""
    span = parse_day_or_moment(text)
    return None if span is None or span.start is None else day_span(span.start)


def parse_date_of_path(text: str) -> Span | None:
    """Like parse_day_or_moment(), but a year is its first day: a delete takes only what was surely meant."""
    return parse_day(text) if _YEAR.fullmatch(text) else parse_day_or_moment(text)


def day_span(moment: datetime) -> Span:
    """The whole UTC day that contains a moment."""
    start = day_of(moment)
    return Span(start, later(start, DAY))


def later(moment: datetime, by: timedelta) -> datetime | None:
    """The moment moved forward; None, meaning no bound, past the end of the calendar."""
    return None if LATEST - moment < by else moment + by


def needs_calendar(text: str) -> bool:
    """Whether a range lies in the future and so requires calendar=true."""
    return text.lower() in _FORWARD


def parse_range(text: str, *, now: datetime, calendar: bool = False) -> Span | None:
    """The span of a named or counted range, relative to the UTC day of `now`; None when it is unknown.

    `<n>d` and the like are n whole units that end today; with calendar they begin today.
    """
    text = text.lower()
    today = day_of(now)
    if counted := _COUNTED.fullmatch(text):
        count = int(counted[1])
        return _counted(today, count, counted[2], forward=calendar) if count else None
    if named := _NAMED.fullmatch(text):
        return _named(int(named[5]), quarter=named[2], half=named[4])
    if text in ("today", "yesterday", "tomorrow"):
        return day_span(today + DAY * ("yesterday", "today", "tomorrow").index(text) - DAY)
    if text == "ytd":
        return Span(today.replace(month=1, day=1), later(today, DAY))
    which, _, unit = text.partition("-")
    if which not in ("last", "this", "next") or unit not in ("week", "month", "quarter"):
        return None
    steps = ("last", "this", "next").index(which) - 1
    if unit == "week":
        sunday = today - DAY * (today.isoweekday() % 7) + 7 * DAY * steps
        return Span(sunday, sunday + 7 * DAY)
    size = 1 if unit == "month" else MONTHS_IN_QUARTER
    first = today.replace(day=1, month=(today.month - 1) // size * size + 1)
    return Span(add_months(first, size * steps), add_months(first, size * (steps + 1)))


def _counted(today: datetime, count: int, unit: str, *, forward: bool) -> Span:
    """`count` units that end with today, or begin with it."""
    months = {"m": 1, "q": MONTHS_IN_QUARTER, "y": 12}.get(unit)
    days = count * (7 if unit == "w" else 1)
    if forward:
        return Span(today, later(today, DAY * days) if months is None else add_months(today, count * months))
    tomorrow = later(today, DAY)
    if months is None:
        length = DAY * (days - 1)
        return Span(EARLIEST if today - EARLIEST < length else today - length, tomorrow)
    start = add_months(today, -count * months)
    return Span(EARLIEST if start is None else start + DAY, tomorrow)


def _named(year: int, *, quarter: str | None, half: str | None) -> Span | None:
    """A whole year, or its quarter or half."""
    if year < date.min.year:
        return None
    first, size = 1, 12
    if quarter:
        first, size = (int(quarter) - 1) * MONTHS_IN_QUARTER + 1, MONTHS_IN_QUARTER
    elif half:
        first, size = (int(half) - 1) * 6 + 1, 6
    start = datetime(year, first, 1, tzinfo=UTC)
    return Span(start, add_months(start, size))


def add_months(day: datetime, months: int) -> datetime | None:
    """The same day of the month, that many months later, or that month's last day; None past the calendar."""
    year, month0 = divmod(day.year * 12 + day.month - 1 + months, 12)
    if not date.min.year <= year <= date.max.year:
        return None
    next_month = date(year, month0 + 1, 28) + timedelta(days=4) if (year, month0) != (9999, 11) else None
    last = 31 if next_month is None else (next_month - timedelta(days=next_month.day)).day
    return day.replace(year=year, month=month0 + 1, day=min(day.day, last))
