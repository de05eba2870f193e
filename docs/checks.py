"""Writes docs/security-checks.md: the 60 checks, the tests that hold each, what is still open and why.

Run by `make checks`. A test says which checks it holds with `@pytest.mark.check("S07")`, a whole file with
`pytestmark`; the marks are read from the source, so nothing is imported. What a check asks for, and what no
test can hold, is in CHECKS below and nowhere else. Source: security.md, Checks.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security-checks.md"
MARK = "pytest.mark.check"

HEAD = """\
# Security checks

The checks come from OWASP ASVS 5.0, the OWASP API Security Top 10 (2023) and published incidents. Each is
held by tests that carry its id: `make test PYTEST_ARGS="-k S07"` runs those of one. What no test holds stands
in the last column, with the reason. Requirement by requirement: [ASVS 5.0](asvs.md).

This page is made from the tests by `make checks`; a test fails when it is behind them.

| id | check | held by | still open, and why |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold, in a few words. `still_open` says what no test holds, and why that is acceptable."""

    holds: str
    still_open: str = ""


CHECKS = {
    "S01": Check("no secret value and no signing secret in clear at rest"),
    "S02": Check("signing secrets are encrypted and bound to their row"),
    "S03": Check("a publishable token never manages the account or tokens"),
    "S04": Check("values come from a secure source, 128 bits"),
    "S05": Check(
        "malformed values are refused without a query",
        still_open="no plug-in for detect-secrets: VALUE_PATTERN in tokens/rules/token_format.py is the one "
        "line that every scanner takes, and a plug-in would tie it to one of them.",
    ),
    "S06": Check("a secret is shown after fresh password entry only"),
    "S07": Check("what is taken away stops within a second in every worker"),
    "S08": Check(
        "signatures are compared in constant time; tokens are found by index",
        still_open="times are not measured: the constant-time comparison is held by a rule on the source, "
        "and a statistic on a shared machine would fail by chance.",
    ),
    "S09": Check(
        "a token in the URL is masked everywhere",
        still_open="pg_stat_statements is not searched: it is not loaded by the embedded server, and values "
        "reach the database as bound digests only.",
    ),
    "S10": Check("a secret token from a browser is refused"),
    "S11": Check("one credential a request"),
    "S12": Check("a session opens no API, a token no page"),
    "S13": Check("no access across accounts"),
    "S14": Check("a view without a policy does not start"),
    "S15": Check("unknown and protected fields are refused"),
    "S16": Check(
        "“not yours” and “does not exist” are one answer",
        still_open="the times of answers are not compared: round trips to the database, which could make "
        "them differ, are counted and equal.",
    ),
    "S17": Check("a fault in a check is a refusal"),
    "S18": Check("read, write and delete by method"),
    "S19": Check("the activation delay is neither skipped nor stuck"),
    "S20": Check("one dataset id for routing, checks and log"),
    "S21": Check("Allowed Domain(s) by the rules"),
    "S22": Check("no pattern from user text, bounded work"),
    "S23": Check("CORS by the same rules"),
    "S24": Check("the form says that a Referer can be forged"),
    "S25": Check("a signature holds for five minutes, on a write once"),
    "S26": Check("a wrong clock is told the server's"),
    "S27": Check("no downgrade of a signature"),
    "S28": Check("any changed byte breaks a signature"),
    "S29": Check("addresses come from trusted proxies only"),
    "S30": Check("the throttle holds over workers"),
    "S31": Check(
        "failed attempts are throttled without locking the owner out",
        still_open="on a device that is new to a person, the right password is refused while others guess: "
        "it cannot be told from a guess, and the link for a new password works.",
    ),
    "S32": Check("credits are never over-spent"),
    "S33": Check("a retry writes and charges once"),
    "S34": Check("limits on bodies give 4xx"),
    "S35": Check(
        "chunked bodies are read or refused, and requests that name no host",
        still_open="bare line feeds between headers, and targets that name a host, are taken: the server's "
        "parser has no switch for it. Neither moves the end of a body, and docs/operating.md says "
        "what a proxy should refuse.",
    ),
    "S36": Check("what unpacks is bounded"),
    "S37": Check("lists, exports and queries have caps"),
    "S38": Check("slow clients stop nobody"),
    "S39": Check("names from users never become SQL"),
    "S40": Check("no formula in exported text"),
    "S41": Check("broken CSV is refused with its line"),
    "S42": Check("no stored script"),
    "S43": Check("webhooks reach public addresses only"),
    "S44": Check("no log injection"),
    "S45": Check("data answers have exact types and safe names"),
    "S46": Check("CSRF on every change, no change by GET"),
    "S47": Check("sessions and cookies"),
    "S48": Check("policy headers on every page"),
    "S49": Check("second factor"),
    "S50": Check("passwords"),
    "S51": Check("reset links"),
    "S52": Check("teammates"),
    "S53": Check("the operators' pages"),
    "S54": Check("audit trail"),
    "S55": Check("one shape of errors"),
    "S56": Check("the API over plain http is refused"),
    "S57": Check(
        "database roles",
        still_open="records share the schema of the other tables: one table holds all records (decision 6), "
        "and the role that serves needs the same rights on it. The account of the embedded server "
        "owns the files of its cluster: whoever is that account is the operator.",
    ),
    "S58": Check("pinned packages"),
    "S59": Check("the OpenAPI document is the API"),
    "S60": Check("files and URLs are checked like requests"),
}


def ids_of(node: ast.expr) -> Iterator[str]:
    """The ids of a mark, or of the marks in a list; nothing for other expressions."""
    if isinstance(node, ast.List | ast.Tuple):
        for one in node.elts:
            yield from ids_of(one)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == MARK:
        for argument in node.args:
            yield ast.literal_eval(argument)


def marked(source: str) -> Iterator[tuple[str, str]]:
    """Each test of a file with each check that it holds: (id, name of the test)."""
    body = ast.parse(source).body
    of_file = [
        number
        for node in body
        if isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == ["pytestmark"]
        for number in ids_of(node.value)
    ]
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own = [number for decorator in node.decorator_list for number in ids_of(decorator)]
            if node.name.startswith("test_"):
                yield from ((number, node.name) for number in [*of_file, *own])
            elif own:
                raise ValueError(f"{node.name} holds {', '.join(own)} and is no test")


def held() -> dict[str, dict[str, list[str]]]:
    """The tests of every check, in the order of the files: {"S07": {"tokens/gate/test_x.py": ["test_y"]}}."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    tests = ROOT / "tests"
    for path in sorted(tests.rglob("test_*.py")):
        for number, name in marked(path.read_text()):
            found[number][str(path.relative_to(tests))].append(name)
    return found


def faults(found: dict[str, dict[str, list[str]]]) -> list[str]:
    """Checks without a test, and marks of no check."""
    unheld = [f"{number} is held by no test" for number in CHECKS if not found.get(number)]
    unknown = [
        f"{file} holds {number}, which is no check"
        for number, files in found.items()
        if number not in CHECKS
        for file in files
    ]
    return unheld + unknown


def in_words(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def page() -> str:
    """The text of the page."""
    found = held()
    rows = []
    for number, check in CHECKS.items():
        tests = "<br>".join(
            f"[{file}](../tests/{file}): {'; '.join(map(in_words, names))}"
            for file, names in found[number].items()
        )
        rows.append(f"| {number} | {check.holds} | {tests} | {check.still_open} |\n")
    return HEAD + "".join(rows)


def main() -> int:
    if problems := faults(held()):
        print("\n".join(problems), file=sys.stderr)
        return 1
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
