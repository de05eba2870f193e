"""docs/reliability.md out of a report: `python -m tests.torture.page [REPORT]`.

Only a whole run tells something: a selection, a quick run, or one on a machine that was busy is refused.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.installation import ROOT
from tests.torture import experiments, outcome
from tests.torture.outcome import ABSENT, Mark, Outcome
from tests.torture.trial import EXPERIMENTS

REPORT = ROOT / "var" / "torture.json"
PAGE = ROOT / "docs" / "reliability.md"
# Of waiting processes for each processor, before the run began.
LOAD_MAX = 0.5
TOP = """\
# Reliability

Faults on a running installation, while clients write down outside the database what they were told. Then
their history is compared with the tables: no acknowledged batch is lost, none is stored in part or twice, no
token spends more than its limit, nobody reads without a grant, each change has its audit row. Run it again
with `make torture`; `ONLY=E-D4,E-D5` chooses, `SEED=7` repeats what chance decided. This page is made from
its report by `make reliability`.
"""
COLUMNS = ("experiment", "fault", *outcome.COUNTS, "recovery")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


def refusal(facts: dict[str, Any], found: Sequence[Outcome]) -> str:
    """Why no page is made of this report, empty if it is whole."""
    if facts["quick"] or facts["only"]:
        return "This report is of a quick run or of a selection. Run `make torture` whole."
    if missing := sorted(EXPERIMENTS.keys() - {one.id for one in found}):
        return f"This report is of a run that did not end: {', '.join(missing)} did not run."
    if facts["load_before"] > LOAD_MAX * facts["processors"]:
        return (f"The machine was busy before the run: a load of {facts['load_before']} on "
                f"{facts['processors']} processors. Run it on a quiet one.")  # fmt: skip
    return ""


def page(facts: dict[str, Any], found: Sequence[Outcome]) -> str:
    minutes = round(facts["seconds"] / 60)
    when = (
        f"Run on {facts['began_at'][:10]} on {facts['processors']} processors, Python {facts['python']}, "
        f"seed {facts['seed']}, in {minutes} minutes."
    )
    ran = [one for one in found if one.state != ABSENT]
    rows = "".join(row(one) for one in ran)
    missed = "".join(mark_row(one, mark) for one in ran for mark in one.marks if not mark.holds)
    kept = "".join(mark_row(one, mark) for one in ran for mark in one.marks if mark.holds)
    absent = "".join(f"- {one.id}: {one.reason}.\n" for one in found if one.state == ABSENT)
    parts = [TOP, when + "\n", HEAD + rows]
    parts.append(section("Marks that were missed", missed or None, "Each mark was kept.\n"))
    parts.append(section("Marks that were kept", kept or None, ""))
    parts.append("## What could not be run\n\n" + (absent or "Everything was run.\n"))
    return "\n".join(part for part in parts if part)


def section(title: str, rows: str | None, otherwise: str) -> str:
    table = f"| experiment | mark | wanted | measured |\n|---|---|---|---|\n{rows}" if rows else otherwise
    return f"## {title}\n\n{table}" if table else ""


def row(one: Outcome) -> str:
    recovery = "" if one.recovery_seconds is None else f"{one.recovery_seconds:.1f} s"
    counts = " | ".join(f"{getattr(one, name):,}" for name in outcome.COUNTS)
    return f"| {one.id} | {cell(one.title)} | {counts} | {recovery} |\n"


def mark_row(one: Outcome, mark: Mark) -> str:
    return f"| {one.id} | {cell(mark.name)} | {cell(mark.wanted)} | {cell(mark.measured)} |\n"


def cell(text: str) -> str:
    """As a table of Markdown takes it."""
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    assert experiments.__all__  # The list is filled by the import.
    report = Path(sys.argv[1]) if len(sys.argv) > 1 else REPORT
    if not report.exists():
        sys.exit(f"There is no report at {report}. Run `make torture` first.")
    facts, found = outcome.load(report)
    if words := refusal(facts, found):
        sys.exit(words)
    PAGE.write_text(page(facts, found), encoding="utf-8")
    print(f"{PAGE} is made from {report}.")


if __name__ == "__main__":
    main()
