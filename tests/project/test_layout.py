"""The house: folders that can be overseen, files that can be read, and the map of README as the tree is."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = ("apperate", "datasets", "tokens")
FILES_MAX = 16
LINES_MAX = 400
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NOT_ROOMS = {"migrations", "commands"}


def python_of(*folders: str) -> list[Path]:
    found = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [path for path in found if "migrations" not in path.parts]


def modules() -> list[Path]:
    return python_of(*APPS)


def styles_and_scripts() -> list[Path]:
    return [path.relative_to(ROOT) for kind in ("css", "js") for path in (ROOT / "static").rglob(f"*.{kind}")]


def test_no_folder_has_too_many_files_and_no_file_too_many_lines() -> None:
    python, pages = python_of(*APPS, "tests", "benchmarks", "docs"), styles_and_scripts()
    folders = Counter(path.parent for path in python + pages)
    lengths = {
        path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in modules() + pages
    }

    assert {str(folder): count for folder, count in folders.items() if count > FILES_MAX} == {}
    assert {str(path): lines for path, lines in lengths.items() if lines > LINES_MAX} == {}


def test_each_room_says_what_lives_in_it_and_who_may_import_from_it() -> None:
    rooms = {path.parent for path in modules()} - {Path("apperate/templatetags")}
    silent = [
        str(room)
        for room in sorted(rooms)
        if "management" not in room.parts
        and "\n\n" not in (ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text())) or "")
    ]

    assert silent == []


def test_the_map_names_the_rooms_that_there_are() -> None:
    table = README.split("## Map of the code")[1].split("## ")[0]
    named = {name.rstrip("/") for line in table.splitlines() if line.startswith("| `")
             for name in re.findall(r"`([a-z_/]+/)`", line.split("|")[1])}  # fmt: skip
    rooms = {str(path.parent) for path in modules() if path.parent.name not in NOT_ROOMS}

    assert rooms - named - {"datasets", "tokens"} == set(), "give each a line in README"
    assert {name for name in named if not (ROOT / name).is_dir()} == set()


@pytest.mark.parametrize("text", [README, ARCHITECTURE], ids=["README", "architecture"])
def test_every_path_that_is_named_leads_to_a_file(text: str) -> None:
    paths = set(re.findall(r"`((?:apperate|datasets|tokens)/[\w/]+\.py)`", text))

    assert len(paths) > 10
    assert {path for path in paths if not (ROOT / path).is_file()} == set()


def test_every_function_on_the_ways_is_where_it_is_said_to_be() -> None:
    pairs = re.findall(r"`([\w/]+\.py)` `(\w+)(?:\(\))?`", ARCHITECTURE)
    missing = [
        (path, name)
        for path, name in pairs
        if not re.search(rf"^ *(?:async )?(?:def|class) {name}\b", (ROOT / path).read_text(), re.MULTILINE)
    ]

    assert len(pairs) > 30 and missing == []


def test_every_document_that_a_module_names_is_there() -> None:
    named = {
        (str(path), name)
        for path in modules()
        for name in re.findall(r"[\w/.-]*\b[\w-]+\.md\b", (ROOT / path).read_text(encoding="utf-8"))
    }

    assert len(named) > 40
    assert {(path, name) for path, name in named if not (ROOT / name).is_file()} == set()


def test_every_module_that_a_docstring_names_is_there() -> None:
    """By its path, or by its bare name where one folder has it."""
    files = {path.name for path in python_of(*APPS, "tests", "benchmarks")} | {"manage.py"}
    named = {
        (str(path), name)
        for path in modules()
        for name in re.findall(
            r"\b(\w+\.py)\b", ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""
        )
    }

    assert {(path, name) for path, name in named if name not in files} == set()


def test_the_sql_on_records_stands_in_one_folder() -> None:
    statement = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN|COPY)\s+(?:deleted_)?records\b")
    found = {str(path) for path in modules() if statement.search((ROOT / path).read_text(encoding="utf-8"))}

    assert len(found) >= 3
    assert {path for path in found if not path.startswith("datasets/storage/")} == set()
