"""Which backups stay: the newest of each of so many hours, days, weeks, months and years.

Keep.of("7d4w6m") -> Keep                     raises Unusable
Keep.chosen(times) -> set of datetime         the newest of all is always among them
seconds_of("6h") -> int
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from apperate.backup.manifest import Unusable

PERIODS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "h": lambda at: (at.year, at.month, at.day, at.hour),
    "d": lambda at: (at.year, at.month, at.day),
    "w": lambda at: at.isocalendar()[:2],
    "m": lambda at: (at.year, at.month),
    "y": lambda at: (at.year,),
}
PERIOD = re.compile(r"([1-9][0-9]{0,3})([hdwmy])")
KEEP_FORM = re.compile(r"(?:[1-9]\d{0,3}[hdwmy])+")
SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
TIME_FORM = re.compile(r"([1-9]\d{0,4})([mhd])")


@dataclass(frozen=True, slots=True)
class Keep:
    """How many periods of each kind keep their newest backup."""

    counts: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, text: str, source: str = "--keep") -> "Keep":
        if not KEEP_FORM.fullmatch(text):
            raise Unusable(
                f"{source} {text!r} does not say what to keep. Needed: numbers of hours, days, weeks, months "
                "and years, like 7d4w6m: the newest of each of 7 days, 4 weeks and 6 months."
            )
        return cls(tuple((unit, int(number)) for number, unit in PERIOD.findall(text)))

    def chosen(self, times: Iterable[datetime]) -> set[datetime]:
        newest_first = sorted(times, reverse=True)
        kept = set(newest_first[:1])
        for unit, count in self.counts:
            periods: dict[tuple[int, ...], datetime] = {}
            for at in newest_first:
                periods.setdefault(PERIODS[unit](at), at)
            kept.update(list(periods.values())[:count])
        return kept


def seconds_of(text: str, source: str) -> int:
    """The seconds of a time like 30m, 6h or 1d."""
    found = TIME_FORM.fullmatch(text)
    if not found:
        raise Unusable(f"{source} {text!r} is no time. Needed: minutes, hours or days, like 30m, 6h or 1d.")
    return int(found[1]) * SECONDS[found[2]]
