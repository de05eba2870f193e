"""What an experiment found is kept in a report, shown on a line, and made a page of if the run was whole."""

from pathlib import Path
from typing import Any

import pytest

from tests.torture import experiments, outcome, page
from tests.torture.__main__ import chosen
from tests.torture.checker import Verdict
from tests.torture.outcome import Outcome
from tests.torture.trial import EXPERIMENTS, Experiment, NotThere, Trial

FACTS = {
    "began_at": "2026-05-20T12:00:00Z", "seed": 7, "quick": False, "only": "", "processors": 2,
    "python": "3.11.7", "load_before": 0.1, "seconds": 3_600,
}  # fmt: skip


def run(work: Any, tmp_path: Path) -> Outcome:
    return Trial(Experiment("E-X", "a fault", work), 7, tmp_path).run()


def test_an_experiment_that_keeps_its_marks_has_held(tmp_path: Path) -> None:
    found = run(lambda trial: trial.mark("the slowest", "<= 1 s", 0.25, True), tmp_path)

    assert found.state == "held"
    assert "E-X: held: acknowledged 0" in found.line()
    assert "  the slowest: 0.25 (wanted: <= 1 s)" in found.line()


def test_a_missed_mark_or_a_violation_breaks_it(tmp_path: Path) -> None:
    missed = run(lambda trial: trial.mark("the slowest", "<= 1 s", 2.0, False), tmp_path)
    violated = run(lambda trial: trial.outcome.add(Verdict(lost=1, violations=["I1: gone"])), tmp_path)

    assert (missed.state, violated.state) == ("broken", "broken")
    assert "MISSED the slowest" in missed.line()
    assert "VIOLATION I1: gone" in violated.line()


def test_what_is_not_there_is_said_and_a_fault_of_its_own_is_no_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacks(trial: Trial) -> None:
        raise NotThere("no such command")

    def fails(trial: Trial) -> None:
        raise ValueError("a mistake in the experiment")

    assert run(lacks, tmp_path).line() == "E-X: not there: no such command"
    assert run(fails, tmp_path).line() == "E-X: failed: ValueError: a mistake in the experiment"
    assert "Traceback" in capsys.readouterr().err


def test_the_longest_recovery_counts(tmp_path: Path) -> None:
    def work(trial: Trial) -> None:
        trial.outcome.recovered(1.0)
        trial.outcome.recovered(3.0)
        trial.outcome.recovered(2.0)

    assert run(work, tmp_path).recovery_seconds == 3.0


def whole() -> list[Outcome]:
    found = [Outcome(one.id, one.title, 7) for one in EXPERIMENTS.values()]
    found[0].marks = [outcome.Mark("kept | mark", "0", "0", True), outcome.Mark("missed", "0", "3", False)]
    found[0].acknowledged = 1_234
    found[1].state, found[1].reason = "not there", "no root"
    return found


def test_a_report_is_read_as_it_was_saved(tmp_path: Path) -> None:
    outcome.save(whole(), tmp_path / "report.json", **FACTS)

    assert outcome.load(tmp_path / "report.json") == (FACTS, whole())


def test_the_page_has_each_experiment_with_its_counts_seed_and_date() -> None:
    text = page.page(FACTS, whole())

    assert "2026-05-20" in text and "seed 7" in text and "60 minutes" in text
    first, second, *others = EXPERIMENTS
    assert f"| {first} | " in text and " 1,234 |" in text
    assert f"- {second}: no root." in text and f"| {second} |" not in text
    assert all(f"| {id} |" in text for id in others)
    assert text.index("| missed | 0 | 3 |") < text.index("| kept \\| mark | 0 | 0 |")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"quick": True}, "quick"),
        ({"only": "E-D4"}, "selection"),
        ({"load_before": 3.0}, "busy"),
        ({}, ""),
    ],
)
def test_a_page_is_made_of_a_whole_run_on_a_quiet_machine_alone(facts: dict[str, Any], words: str) -> None:
    said = page.refusal(FACTS | facts, whole())

    assert words in said and bool(said) is bool(words)
    assert "did not end" in page.refusal(FACTS, whole()[1:])


def test_an_id_chooses_itself_and_what_belongs_to_it() -> None:
    assert [one.id for one in chosen("E-C3")] == ["E-C3", "E-C3-database"]
    assert {one.id for one in chosen("E-D5, E-U1")} > {"E-D5-cut", "E-D5-commit", "E-U1"}
    assert len(chosen("")) == len(EXPERIMENTS) > 30
    assert chosen("")[-1].id == "E-L1"
    with pytest.raises(SystemExit, match="There is no experiment E-9. There are: "):
        chosen("E-9")


def test_each_experiment_of_the_specification_is_there() -> None:
    assert experiments.__all__
    wanted = {"C": 5, "D": 5, "F": 2, "L": 1, "N": 3, "P": 2, "T": 1, "U": 1, "W": 2, "X": 1, "Z": 1}
    found = {id[2:4] for id in EXPERIMENTS}

    assert found == {f"{letter}{number + 1}" for letter, count in wanted.items() for number in range(count)}
