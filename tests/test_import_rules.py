"""The import directions of the architecture hold, and the contracts that hold them see every module."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
ROOTS = ("apperate", "datasets", "tokens")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
CONTRACTS = {contract["name"]: contract for contract in SETTINGS["contracts"]}
ONE_WAY = "Imports go one way"
INSIDE = "Inside an app: pages and endpoints, services, access, state, models, rules"
PURE = "Pure rules know neither Django nor the database driver"
DATA_PLANE = "The data plane imports no views, forms or services"
DATA_PLANE_MODULES = {
    "datasets.api.reading",
    "datasets.storage.reads",
    "datasets.answers.renderers",
    "datasets.storage.writes",
    "tokens.gate.access",
    "tokens.gate.credits",
    "tokens.gate.failed_values",
    "tokens.gate.leases",
    "tokens.gate.authentication",
    "tokens.gate.signed_requests",
    "tokens.gate.snapshots",
    "tokens.gate.throttling",
    "tokens.gate.meter",
}


def module_file(folder: Path, module: str) -> Path:
    return folder.joinpath(*module.split(".")).with_suffix(".py")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--config", str(ROOT / "pyproject.toml"), "--no-cache", "--no-logo"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def empty_project(tmp_path: Path) -> Path:
    """Packages and modules of the project's names with nothing in them."""
    for package in (*ROOTS, "apperate/accounts", "apperate/team"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    named = {module for contract in CONTRACTS.values() for module in contract.get("source_modules", [])}
    for module in {*named, "apperate.http.problems", "tokens.models", "tokens.services.lifecycle"}:
        module_file(tmp_path, module).touch()
    return tmp_path


def test_imports_go_one_way() -> None:
    done = lint_imports(ROOT)

    assert done.returncode == 0, done.stdout + done.stderr


def test_an_empty_project_breaks_no_contract(empty_project: Path) -> None:
    done = lint_imports(empty_project)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("tokens.rules.token_format", "datasets.records.schema", ONE_WAY),
        ("apperate.http.problems", "apperate.accounts", ONE_WAY),
        ("apperate.accounts", "tokens.models", ONE_WAY),
        ("apperate.kernel.refusals", "django.http", PURE),
        ("tokens.rules.domains", "psycopg", PURE),
        ("tokens.rules.domains", "tokens.models", INSIDE),
        ("tokens.models", "tokens.gate.access", INSIDE),
        ("tokens.gate.snapshots", "tokens.services.lifecycle", DATA_PLANE),
    ],
)
def test_a_planted_import_breaks_its_contract(
    module: str, imported: str, contract: str, empty_project: Path
) -> None:
    path = module_file(empty_project, module)
    path = path if path.exists() else path.with_suffix("") / "__init__.py"
    path.write_text(f"import {imported}\n", encoding="utf-8")

    done = lint_imports(empty_project)

    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout


def test_every_module_that_calls_itself_pure_is_pure() -> None:
    """The contract names the rules of the architecture; a module beside them is taken at its word."""
    claims = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in ROOTS
        for path in (ROOT / name).rglob("*.py")
        if "Pure" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    }
    graph = grimp.build_graph(*ROOTS, include_external_packages=True, cache_dir=None)
    impure = [module for module in CONTRACTS[PURE]["forbidden_modules"] if module in graph.modules]

    chains = [graph.find_shortest_chain(claim, module) for claim in sorted(claims) for module in impure]

    assert {"apperate.kernel.refusals", "tokens.rules.domains"} <= claims
    assert not [" → ".join(chain) for chain in chains if chain]


def test_every_module_of_the_data_plane_is_held_to_its_contract() -> None:
    present = {module for module in DATA_PLANE_MODULES if module_file(ROOT, module).exists()}

    assert present == set(CONTRACTS[DATA_PLANE]["source_modules"])
