"""S58: packages are pinned with hashes, listed in a bill of materials, and audited or said not to be."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import ROOT

packages: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "packages.py"))
read_audit = packages["read_audit"]
FAULT = {"id": "PYSEC-2026-1", "fix_versions": ["5.2.9"], "aliases": []}
LOCKS = sorted(
    path for pattern in ("requirements*.txt", "tests/clients/*.txt") for path in ROOT.glob(pattern)
)


def pinned(path: Path) -> dict[str, tuple[str, set[str]]]:
    """Name: version and hashes, of a requirements file."""
    text = path.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = {}
    for line in lines:
        match = re.match(r"([a-z0-9-]+)(?:\[[a-z,]+\])?==([^\s;]+)", line)
        assert match, f"{path.name}: {line[:60]} is not pinned to a version"
        found[match[1]] = (match[2], set(re.findall(r"--hash=sha256:([0-9a-f]{64})", line)))
    return found


@pytest.mark.check("S58")
@pytest.mark.parametrize("path", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_package_is_pinned_with_hashes(path: Path) -> None:
    assert all(hashes for _, hashes in pinned(path).values())
    # Where they come from is the business of the machine that installs them.
    assert "://" not in re.sub(r"(?m)^\s*#.*$", "", path.read_text())


@pytest.mark.check("S58")
def test_the_bill_lists_what_is_pinned_with_its_hashes(tmp_path: Path) -> None:
    target = tmp_path / "bill.json"

    count = packages["write_bill"](packages["REQUIREMENTS"], target)

    bill = json.loads(target.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    listed = {
        one["name"]: (
            one["version"],
            {digest["content"] for digest in one["externalReferences"][0]["hashes"]},
        )
        for one in bill["components"]
    }
    assert listed == pinned(packages["REQUIREMENTS"])
    assert count == len(listed) > 20


def report(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(dependencies), "fixes": []})


@pytest.mark.check("S58")
def test_an_audit_that_reached_no_database_is_not_run() -> None:
    """pip-audit itself ends well and says that no vulnerability is known."""
    skipped = {"name": "django", "skip_reason": "Dependency not found on PyPI and could not be audited"}
    clean = {"name": "attrs", "version": "26.1.0", "vulns": []}

    assert read_audit(report(skipped)).outcome == "not run"
    assert read_audit(report(clean, skipped)).reason == "the database knows nothing of 1 of 2 packages"


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "Traceback (most recent call last):", report()])
def test_a_report_that_is_none_is_not_run(text: str) -> None:
    assert read_audit(text).outcome == "not run"


def test_what_is_known_is_named_with_its_fix() -> None:
    bad = {"name": "django", "version": "5.2.8", "vulns": [FAULT, {**FAULT, "fix_versions": []}]}

    found = read_audit(report(bad, {"name": "attrs", "skip_reason": "unknown"}))

    assert found.outcome == "vulnerable"
    assert found.known == (
        "django 5.2.8: PYSEC-2026-1, fixed in 5.2.9",
        "django 5.2.8: PYSEC-2026-1, no fix yet",
    )


def test_only_a_whole_audit_is_clean() -> None:
    found = read_audit(report({"name": "attrs", "version": "26.1.0", "vulns": []}))

    assert (found.outcome, packages["EXIT_STATUS"][found.outcome]) == ("clean", 0)
    assert all(status for outcome, status in packages["EXIT_STATUS"].items() if outcome != "clean")
