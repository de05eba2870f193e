"""What an experiment found: counts, marks with what was wanted and measured, violations."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.torture.checker import Verdict

COUNTS = ("acknowledged", "unknown", "lost", "partial", "doubled", "overspent", "refused", "passed")
HELD, BROKEN, ABSENT, FAILED = "held", "broken", "not there", "failed"


@dataclass
class Mark:
    """One thing that was wanted, and what was measured."""

    name: str
    wanted: str
    measured: str
    holds: bool


@dataclass
class Outcome:
    """`state`: held, broken, not there (what it needs is missing, see `reason`) or failed (itself)."""

    id: str
    title: str
    seed: int
    began_at: str = ""
    seconds: float = 0.0
    state: str = HELD
    reason: str = ""
    acknowledged: int = 0
    unknown: int = 0
    lost: int = 0
    partial: int = 0
    doubled: int = 0
    overspent: int = 0
    refused: int = 0
    passed: int = 0
    audit_missing: int = 0
    served: int = 0
    charged: int = 0
    recovery_seconds: float | None = None
    marks: list[Mark] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    misrefused: dict[str, int] = field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        """Count what was judged; an experiment may judge several histories."""
        for name in (*COUNTS, "audit_missing", "served", "charged"):
            setattr(self, name, getattr(self, name) + getattr(verdict, name))
        self.violations += verdict.violations
        for name, count in verdict.misrefused.items():
            self.misrefused[name] = self.misrefused.get(name, 0) + count

    def recovered(self, seconds: float) -> None:
        """How long it took until all was well again; the longest of several times counts."""
        self.recovery_seconds = max(seconds, self.recovery_seconds or 0.0)

    def close(self) -> None:
        """Set the state by what was found."""
        violations = (self.lost, self.partial, self.doubled, self.overspent, self.passed, self.audit_missing)
        if self.state == HELD and (any(violations) or not all(mark.holds for mark in self.marks)):
            self.state = BROKEN

    def line(self) -> str:
        if self.state in (ABSENT, FAILED):
            return f"{self.id}: {self.state}: {self.reason}"
        counts = ", ".join(f"{name} {getattr(self, name):,}" for name in COUNTS)
        recovery = "-" if self.recovery_seconds is None else f"{self.recovery_seconds:.2f}"
        end = f"recovery {recovery} s, seed {self.seed} ({self.seconds:.0f} s)"
        parts = [f"{self.id}: {self.state}: {counts}, {end}"]
        parts += [f"  {'' if mark.holds else 'MISSED '}{mark.name}: {mark.measured} (wanted: {mark.wanted})"
                  for mark in self.marks]  # fmt: skip
        parts += [f"  {name}: {value}" for name, value in self.figures.items()]
        parts += [f"  VIOLATION {sentence}" for sentence in self.violations]
        parts += [f"  valid, and refused: {name}, {count} times" for name, count in self.misrefused.items()]
        return "\n".join(parts)


def save(outcomes: Sequence[Outcome], path: Path, **facts: Any) -> None:
    path.write_text(json.dumps({**facts, "experiments": [asdict(one) for one in outcomes]}, indent=1) + "\n")


def load(path: Path) -> tuple[dict[str, Any], list[Outcome]]:
    """The facts of a run and its outcomes."""
    found = json.loads(path.read_text())
    outcomes = [
        Outcome(**{**one, "marks": [Mark(**mark) for mark in one["marks"]]})
        for one in found.pop("experiments")
    ]
    return found, outcomes
