"""The import directions of the architecture hold, and the contracts that hold them see every module."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("apperate", "datasets", "tokens")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
CONTRACTS = {contract["name"]: contract for contract in SETTINGS["contracts"]}
APPS = "Imports go down: the apps, and what they stand on"
IN_DATASETS = "Imports go down: inside datasets"
IN_TOKENS = "Imports go down: inside tokens"
PURE = "Pure rules know neither Django nor the database driver"
DATA_PLANE = "The data plane imports no pages, forms or services"
# Of the API's modules those on the way of a read; the others may call services.
COLD = {
    "account", "catalog", "descriptions", "docs", "job_documents", "job_lists", "jobs", "status", "trials",
    "urls", "writing",
}  # fmt: skip


def modules() -> set[str]:
    """Every module of the product, but for migrations."""
    found = {path.relative_to(ROOT) for name in ROOTS for path in (ROOT / name).rglob("*.py")}
    return {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in found
        if "migrations" not in path.parts
    }


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
    for path in (path for name in ROOTS for path in (ROOT / name).rglob("*.py")):
        place = tmp_path / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
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
        ("tokens.rules.token_format", "datasets.records.schema", APPS),
        ("apperate.http.problems", "apperate.accounts.models", APPS),
        ("apperate.accounts.services", "tokens.models", APPS),
        ("apperate.database.pool", "apperate.http.problems", APPS),
        ("apperate.kernel.logs", "tokens.rules.token_format", APPS),
        ("apperate.kernel.refusals", "django.http", PURE),
        ("tokens.rules.domains", "psycopg", PURE),
        ("datasets.records.checking", "django.db", PURE),
        ("datasets.query.filters", "psycopg", PURE),
        ("datasets.files.csv_file", "django.conf", PURE),
        ("datasets.answers.renderers", "asgiref.sync", PURE),
        ("tokens.rules.domains", "tokens.models", IN_TOKENS),
        ("tokens.models", "tokens.gate.access", IN_TOKENS),
        ("tokens.gate.leases", "tokens.alerts.mail", IN_TOKENS),
        ("tokens.services.rows", "tokens.api.documents", IN_TOKENS),
        ("tokens.api.answers", "tokens.pages.forms", IN_TOKENS),
        ("datasets.records.schema", "datasets.query.parsing", IN_DATASETS),
        ("datasets.storage.reads", "datasets.jobs.making", IN_DATASETS),
        ("datasets.jobs.making", "datasets.api.reading", IN_DATASETS),
        ("datasets.api.catalog", "datasets.pages.forms", IN_DATASETS),
        ("tokens.gate.snapshots", "tokens.services.lifecycle", DATA_PLANE),
        ("datasets.storage.reads", "datasets.services.writing", DATA_PLANE),
        ("datasets.api.batch", "datasets.pages.forms", DATA_PLANE),
        ("datasets.api.reading", "tokens.services.rows", DATA_PLANE),
        ("datasets.answers.renderers", "apperate.dashboard.forms", DATA_PLANE),
    ],
)
def test_a_planted_import_breaks_its_contract(
    module: str, imported: str, contract: str, empty_project: Path
) -> None:
    path = empty_project.joinpath(*module.split(".")).with_suffix(".py")
    assert path.exists(), "a module of the project"
    path.write_text(f"import {imported}\n", encoding="utf-8")

    done = lint_imports(empty_project)

    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout


def test_every_module_that_calls_itself_pure_is_pure() -> None:
    """The contract names folders; a module beside them is taken at its word."""
    claims = {
        module
        for module in modules()
        for path in [ROOT.joinpath(*module.split(".")).with_suffix(".py")]
        if path.exists() and "Pure" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    }
    graph = grimp.build_graph(*ROOTS, include_external_packages=True, cache_dir=None)
    impure = [module for module in CONTRACTS[PURE]["forbidden_modules"] if module in graph.modules]

    chains = [graph.find_shortest_chain(claim, module) for claim in sorted(claims) for module in impure]

    assert {"apperate.kernel.refusals", "tokens.rules.domains"} <= claims
    assert not [" → ".join(chain) for chain in chains if chain]


def test_every_module_of_the_api_is_either_cold_or_held_to_the_contract_of_the_data_plane() -> None:
    api = {module.rpartition(".")[2] for module in modules() if module.startswith("datasets.api.")}
    sources = set(CONTRACTS[DATA_PLANE]["source_modules"])

    assert {f"datasets.api.{name}" for name in api - COLD} <= sources
    assert api >= COLD and {"tokens.gate", "datasets.storage", "datasets.answers"} <= sources
