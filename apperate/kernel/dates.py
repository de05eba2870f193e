"""Dates as text: which texts are ISO 8601 dates, and what moment each means. Pure.

Only the extended forms count (`2020-02-29`, `2020-02-29T10:00:00.5Z`), so that `20200229` in a file
stays a number and `01/02/2020` stays text. A date-time without an offset means UTC. A property that is
declared as a date, or mapped as the index's date, may also hold a year alone (`1950`).
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2}|[+-][0-9]{2})?)?"
)
_YEAR = re.compile(r"[0-9]{4}")
ISO_TEXT_CHARS_MAX = 40
DATE_CHARS = 10


@lru_cache(maxsize=8192)
def parse_iso(text: str) -> datetime | None:
    """The moment an ISO 8601 date or date-time means, in UTC; None for any other text.

    A date means its first moment. Impossible dates (2020-02-30, 24:00, year 0) are None. Digits after
    the microseconds are dropped.
    """
    if len(text) > ISO_TEXT_CHARS_MAX:
        return None
    text = text.upper()
    if not _ISO.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_date(text: str) -> datetime | None:
    """The moment a date property's text means: like parse_iso(), or the first moment of a year."""
    return parse_iso(f"{text}-01-01") if _YEAR.fullmatch(text) else parse_iso(text)


def has_time(text: str) -> bool:
    """Whether an ISO text includes a time of day, not only a date."""
    return len(text) > DATE_CHARS


def day_of(moment: datetime) -> datetime:
    """The first moment of the UTC day that contains a moment."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def seconds_in_words(seconds: int) -> str:
    """ "1 second", "90 seconds", "2 minutes": a duration in words."""
    count, unit = (seconds // 60, "minute") if seconds and seconds % 60 == 0 else (seconds, "second")
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970, as the API writes moments."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)
