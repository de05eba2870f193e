"""Writes var/packages.cdx.json and var/packages-audit.json: what is installed, and what is known against it.

Run by `make packages`. The first is a CycloneDX bill of materials of requirements.txt, with its hashes. The
second is dated and says "clean", "vulnerable" or "not run": an audit that could not ask its database about
every package has not been run, whatever the tool's exit status says. Source: security.md, S58.
"""

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements.txt"
TOOLS = Path(sys.executable).parent
SECONDS_MAX = 300
CLEAN, VULNERABLE, NOT_RUN = "clean", "vulnerable", "not run"
EXIT_STATUS = {CLEAN: 0, VULNERABLE: 1, NOT_RUN: 2}


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found. `reason` says why it is not run; `known` names what is known, one line each."""

    outcome: str
    packages: int
    known: tuple[str, ...] = ()
    reason: str = ""


def read_audit(report: str) -> Audit:
    """The outcome of pip-audit's JSON report."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Audit(NOT_RUN, 0, reason="pip-audit wrote no report")
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    known = tuple(
        f"{package['name']} {package['version']}: {fault['id']}, "
        + (f"fixed in {', '.join(fault['fix_versions'])}" if fault["fix_versions"] else "no fix yet")
        for package in packages
        for fault in package.get("vulns", [])
    )
    if known:
        return Audit(VULNERABLE, len(packages), known)
    if skipped or not packages:
        reason = f"the database knows nothing of {len(skipped)} of {len(packages)} packages"
        return Audit(NOT_RUN, len(packages), reason=reason)
    return Audit(CLEAN, len(packages))


def audit(requirements: Path) -> Audit:
    """Ask pip-audit's database about every pinned package. Nothing is installed."""
    command = [TOOLS / "pip-audit", "--requirement", requirements, "--disable-pip", "--no-deps"]
    try:
        done = subprocess.run(  # noqa: S603
            [*command, "--format", "json", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        return Audit(NOT_RUN, 0, reason=f"the database did not answer within {SECONDS_MAX} s")
    return read_audit(done.stdout)


def write_bill(requirements: Path, target: Path) -> int:
    """Write the bill of materials; returns how many packages it lists."""
    command = [TOOLS / "cyclonedx-py", "requirements", requirements, "--output-reproducible", "-o", target]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    return len(json.loads(target.read_text())["components"])


def main() -> int:
    folder = ROOT / "var"
    folder.mkdir(exist_ok=True)
    bill, report = folder / "packages.cdx.json", folder / "packages-audit.json"
    print(f"{bill.relative_to(ROOT)}: {write_bill(REQUIREMENTS, bill)} packages")
    found = audit(REQUIREMENTS)
    facts = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "requirements_sha256": hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest(),
        **asdict(found),
    }
    report.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{report.relative_to(ROOT)}: {found.outcome}{': ' if found.reason else ''}{found.reason}")
    print(*found.known, sep="\n", end="\n" if found.known else "")
    return EXIT_STATUS[found.outcome]


if __name__ == "__main__":
    sys.exit(main())
