"""The lists in docs/ say what the code says: a new code, parameter, variable or path needs its line."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.urls import URLPattern

from apperate import settings as product_settings
from apperate.http.parameters import Parameter
from apperate.kernel.refusals import REFUSALS, Refusal
from datasets.api import urls
from datasets.query.cursors import Place, question_of, write_cursor
from datasets.query.parameters import IGNORED, PARAMETERS, of
from datasets.query.parsing import parse
from datasets.records.schema import Schema, parse_schema

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

# How the source reads a variable: environ["X"], environ.get("X"), "X" in environ, flag(os.environ, "X", …),
# env.str("X"), or its name as a constant.
VARIABLE_READS = (
    r"""environ(?:\.get\(|\[)\s*f?["']([A-Z][A-Z0-9_]+)["']""",
    r"""["']([A-Z][A-Z0-9_]+)["'] (?:not )?in (?:os\.)?environ\b""",
    r"""(?:flag|integer)\(\s*(?:os\.)?environ,\s*["']([A-Z][A-Z0-9_]+)["']""",
    r"""\benv\.\w+\(\s*["']([A-Z][A-Z0-9_]+)["']""",
    r"""["'](APPERATE_[A-Z0-9_]+|DATABASE_[A-Z_]*URL)["']""",
)
DEFAULTS = r"(?:flag|integer)\(\s*os\.environ, \"(\w+)\", default=(\w+)"


def sources() -> Iterator[tuple[Path, str]]:
    """Every source file of the product, with its text."""
    for folder in ("apperate", "datasets", "tokens"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path, path.read_text()


def table(page: str, *columns: str) -> list[dict[str, str]]:
    """The rows of every table of a page that has these columns, by the name of the column."""
    found: list[dict[str, str]] = []
    names: list[str] = []
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            names = []
        elif not names:
            names = cells
        elif not set("".join(cells)) <= {"-", ":"}:
            assert len(cells) == len(names), f"{page}: {line}"
            found.append(dict(zip(names, cells, strict=True)))
    return [row for row in found if list(row) == list(columns)]


def named(cell: str) -> str:
    """The one word in code quotes that a cell is about."""
    words: list[str] = re.findall(r"`([^`]+)`", cell)
    assert len(words) == 1, cell
    return words[0]


# --- errors -------------------------------------------------------------------------------------

ERRORS = {
    named(row["code"]): row for row in table("errors.md", "status", "code", "title", "when", "what to do")
}


def test_every_code_has_its_line_and_no_line_is_left_over() -> None:
    assert sorted(ERRORS) == sorted(REFUSALS)


@pytest.mark.parametrize("code", REFUSALS)
def test_a_code_is_listed_with_its_status_title_and_anchor(code: str) -> None:
    row = ERRORS[code]

    assert (int(row["status"]), row["title"]) == REFUSALS[code]
    assert f'<a id="{code}"></a>' in row["code"]
    assert row["when"] and row["what to do"]


# They name codes, they answer none.
TABLES = (
    "apperate/kernel/refusals.py",
    "datasets/openapi/operations.py",
    "datasets/openapi/token_operations.py",
)


def test_every_code_is_answered_somewhere() -> None:
    said = "".join(text for path, text in sources() if str(path.relative_to(ROOT)) not in TABLES)

    unused = {code for code in REFUSALS if f'"{code}"' not in said}

    assert unused == set()


# --- query parameters ---------------------------------------------------------------------------

SUPPORTED = table("query-parameters.md", "parameter", "meaning", "example", "accepted")
SCHEMA = parse_schema(
    {
        "type": "object",
        "properties": {
            "day": {"type": "date"},
            "ticker": {"type": "string"},
            "close": {"type": "number"},
        },
    },
    {"key": "ticker", "date": "day"},
)
NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


def test_every_parameter_has_its_line_in_the_order_of_the_code() -> None:
    listed = [named(row["parameter"]) for row in SUPPORTED]

    assert listed == list(of("read"))


@pytest.mark.parametrize("parameter", of("read").values(), ids=lambda parameter: parameter.name)
def test_a_parameter_is_listed_with_its_meaning_and_example(parameter: Parameter) -> None:
    row = next(row for row in SUPPORTED if named(row["parameter"]) == parameter.name)

    # A list of what is accepted that follows in the meaning is a column of its own here.
    assert row["meaning"] == parameter.meaning.split(":")[0]
    assert named(row["example"]) == parameter.example
    assert row.get("accepted", parameter.needed) == parameter.needed


@pytest.mark.parametrize("row", SUPPORTED, ids=lambda row: named(row["parameter"]))
def test_the_example_of_a_listed_parameter_is_accepted(row: dict[str, str]) -> None:
    assert isinstance(SCHEMA, Schema), SCHEMA

    name, example = named(row["parameter"]), named(row["example"])
    if name == "cursor":  # One is good in its own query alone, so no example can be copied.
        place = Place(0, 0, NOW, "AAPL", "", 0)
        example = write_cursor(place, question_of("", (None, None), []))

    query = parse([(name, example)], SCHEMA, now=NOW)

    assert not isinstance(query, Refusal), query


def test_parameters_without_effect_are_listed() -> None:
    text = (DOCS / "query-parameters.md").read_text()
    section = text.split("## Accepted and without effect")[1].split("##")[0]

    listed = set(re.findall(r"`(\w+)`", section))

    assert listed >= IGNORED


def test_parameters_of_writing_and_deleting_are_listed() -> None:
    others = [found for found in PARAMETERS if set(found.of) != {"read"}]

    rows = table("query-parameters.md", "parameter", "of", "meaning", "accepted")

    assert [named(row["parameter"]) for row in rows] == [found.name for found in others]
    for row, found in zip(rows, others, strict=True):
        assert row["of"] == ", ".join(of_ for of_ in found.of if of_ != "read")
        assert (row["meaning"], row["accepted"]) == (found.meaning, found.needed)


# --- settings -----------------------------------------------------------------------------------

VARIABLES = {named(row["variable"]): row for row in table("settings.md", "variable", "default", "meaning")}


def test_every_variable_that_is_read_has_its_line_and_no_line_is_left_over() -> None:
    read = {name for _, text in sources() for pattern in VARIABLE_READS for name in re.findall(pattern, text)}

    assert sorted(VARIABLES) == sorted(read)


def test_the_listed_defaults_of_numbers_and_flags_are_those_of_the_code() -> None:
    found = {name: value for _, text in sources() for name, value in re.findall(DEFAULTS, text)}
    values = {"True": "1", "False": "0"}

    listed = {name: named(VARIABLES[name]["default"]) for name in found}

    assert listed == {name: values.get(text, text.replace("_", "")) for name, text in found.items()}
    assert len(found) > 5


def test_the_settings_module_names_the_page_that_describes_it() -> None:
    assert "docs/settings.md" in (product_settings.__doc__ or "")


# --- the API ------------------------------------------------------------------------------------

SEGMENTS = {
    "workspace": "WORKSPACE",
    "name": "DATASET",
    "key": "KEY",
    "subkey": "SUBKEY",
    "date": "DATE",
    "job_id": "JOBID",
    "usage_type": "TYPE",
    "token_id": "TOKENID",
}


def readable(pattern: URLPattern) -> str:
    """A route as the page writes it: /v1/data/WORKSPACE/DATASET."""
    route = str(pattern.pattern)
    route = re.sub(r"<segment:(\w+)>", lambda match: SEGMENTS[match[1]], route)
    route = re.sub(
        r"\(\?P<(\w+)>([^()]*)\)",
        lambda match: SEGMENTS.get(match[1], match[2]),
        route.removeprefix("^").removesuffix("$"),
    )
    return f"/v1/{route}"


def test_every_path_of_the_api_has_its_line_and_no_line_is_left_over() -> None:
    views: list[tuple[URLPattern, Any]] = [(found, found.callback) for found in urls.urlpatterns]
    served = {
        f"{method} {readable(found)}"
        for found, view in views
        if isinstance(view, urls.ByMethod)
        for method in view.views
        if method != "HEAD"
    }

    listed = {
        row["method and path"].replace("`", "") for row in table("api.md", "method and path", "who", "answer")
    }

    assert listed == served


# --- every page ---------------------------------------------------------------------------------


@pytest.mark.parametrize("document", PAGES, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        assert target.startswith("https://") or (document.parent / target).exists(), target


@pytest.mark.parametrize("document", PAGES, ids=lambda document: str(document.relative_to(ROOT)))
def test_modules_and_pages_named_in_code_quotes_exist(document: Path) -> None:
    for target in re.findall(
        r"`((?:apperate|datasets|tokens|tests|docs|demo)/[\w/.]+)`", document.read_text()
    ):
        assert (ROOT / target).exists(), target
