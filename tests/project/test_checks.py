"""docs/security-checks.md is made from the tests: every check has one, and the page is up to date."""

import runpy
from typing import Any

import pytest

from tests.support.installation import ROOT

checks: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "checks.py"))
marked, faults, CHECKS = checks["marked"], checks["faults"], checks["CHECKS"]


def test_the_page_is_what_the_marks_of_the_tests_say() -> None:
    written = (ROOT / "docs" / "security-checks.md").read_text(encoding="utf-8")

    assert written == checks["page"](), "run `make checks`"


def test_there_are_60_checks_and_a_test_holds_each() -> None:
    assert list(CHECKS) == [f"S{number:02}" for number in range(1, 61)]
    assert faults(checks["held"]()) == []


def test_what_is_open_says_why() -> None:
    """As "what: why", so that no check is open without a reason."""
    reasons = {number: check.still_open for number, check in CHECKS.items() if check.still_open}

    assert [number for number, said in reasons.items() if ": " not in said or not said.endswith(".")] == []


def test_a_check_without_a_test_and_a_mark_of_no_check_are_found() -> None:
    found = {number: {"x/test_y.py": ["test_z"]} for number in CHECKS if number != "S07"}
    found["S61"] = {"x/test_y.py": ["test_z"]}

    assert faults(found) == ["S07 is held by no test", "x/test_y.py holds S61, which is no check"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('@pytest.mark.check("S01", "S02")\ndef test_a(): ...', [("S01", "test_a"), ("S02", "test_a")]),
        ('@pytest.mark.slow\n@pytest.mark.check("S01")\nasync def test_a(): ...', [("S01", "test_a")]),
        ('pytestmark = pytest.mark.check("S01")\ndef test_a(): ...\ndef help(): ...', [("S01", "test_a")]),
        (
            'pytestmark = [pytest.mark.server, pytest.mark.check("S01")]\ndef test_a(): ...',
            [("S01", "test_a")],
        ),
        ("def test_a(): ...", []),
    ],
    ids=["several", "among others", "of a file", "in a list of a file", "none"],
)
def test_marks_are_read_from_the_source(source: str, expected: list[tuple[str, str]]) -> None:
    assert list(marked(source)) == expected


def test_a_mark_on_what_is_no_test_is_an_error() -> None:
    with pytest.raises(ValueError, match="setup holds S01 and is no test"):
        list(marked('@pytest.mark.check("S01")\ndef setup(): ...'))
