"""docs/asvs.md has a row for each requirement of ASVS 5.0 of levels 1 and 2, and what it names is there."""

import re
from collections import Counter

import pytest

from tests.project.test_checks import CHECKS
from tests.project.test_docs import table
from tests.support.installation import ROOT

# The numbers of the standard's list, section by section: 1.1.1-2 is 1.1.1 and 1.1.2.
NUMBERS = """
1.1.1-2 1.2.1-9 1.3.1-11 1.4.1-3 1.5.1-2 2.1.1-3 2.2.1-3 2.3.1-4 2.4.1 3.2.1-2 3.3.1-4 3.4.1-6
3.5.1-5 3.7.1-2 4.1.1-3 4.2.1 4.3.1-2 4.4.1-4 5.1.1 5.2.1-3 5.3.1-2 5.4.1-3 6.1.1-3 6.2.1-12 6.3.1-4
6.4.1-4 6.5.1-5 6.6.1-3 6.8.1-4 7.1.1-3 7.2.1-4 7.3.1-2 7.4.1-5 7.5.1-2 7.6.1-2 8.1.1-2 8.2.1-3
8.3.1 8.4.1 9.1.1-3 9.2.1-4 10.1.1-2 10.2.1-2 10.3.1-4 10.4.1-11 10.5.1-5 10.6.1-2 10.7.1-3 11.1.1-2
11.2.1-3 11.3.1-3 11.4.1-4 11.5.1 11.6.1 12.1.1-3 12.2.1-2 12.3.1-4 13.1.1 13.2.1-5 13.3.1-2
13.4.1-5 14.1.1-2 14.2.1-4 14.3.1-3 15.1.1-3 15.2.1-3 15.3.1-7 16.1.1 16.2.1-5 16.3.1-4 16.4.1-3
16.5.1-3 17.1.1 17.2.1-4 17.3.1-2
"""
ROWS = table("asvs.md", "number", "level", "holds", "by what, or why not")


def written_out(text: str) -> list[str]:
    found = []
    for section, numbers in re.findall(r"(\d+\.\d+)\.(\S+)", text):
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            found += [f"{section}.{number}" for number in range(int(first), int(last or first) + 1)]
    return found


def test_every_requirement_of_the_first_two_levels_has_its_row() -> None:
    assert [row["number"] for row in ROWS] == written_out(NUMBERS)
    assert {row["level"] for row in ROWS} == {"1", "2"}


def test_each_row_says_yes_no_or_that_it_does_not_apply_and_why() -> None:
    counts = Counter(row["holds"] for row in ROWS)
    text = (ROOT / "docs" / "asvs.md").read_text(encoding="utf-8")

    assert set(counts) == {"yes", "no", "n/a"}
    assert [row["number"] for row in ROWS if not row["by what, or why not"]] == []
    said = f"{counts['yes']} hold, {counts['no']} do not, and {counts['n/a']} do not apply."
    assert f"Of {len(ROWS)} requirements {said}" in text


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["number"])
def test_the_checks_and_files_that_a_row_names_are_there(row: dict[str, str]) -> None:
    words = row["by what, or why not"]

    # "S602" is a rule of the linter.
    assert set(re.findall(r"\bS\d\d\b", words)) <= set(CHECKS)
    for path in re.findall(r"\b(?:docs|tests)/[\w/.-]+\.(?:md|py)", words):
        assert (ROOT / path).exists(), path
