"""The files of deploy/ name settings and paths that exist, and docs/deploy.md names all of them."""

import re
from pathlib import Path

import pytest

from tests.support.installation import ROOT

FILES = sorted(path for path in (ROOT / "deploy").rglob("*") if path.is_file())
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
HOW_TO = "".join((ROOT / "docs" / name).read_text() for name in ("deploy.md", "operating.md"))
# What the container's Dockerfile copies by name.
COPIED = re.compile(r"^COPY ((?:[\w.-]+ )+)\./$", re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"\b(?:APPERATE|DATABASE|EMAIL)_[A-Z_]+\b", path.read_text()))

    assert {name for name in named if f"| `{name}` |" not in SETTINGS} == set()


def test_what_is_copied_into_the_container_is_there() -> None:
    (names,) = COPIED.findall((ROOT / "deploy" / "Dockerfile").read_text())

    assert [name for name in names.split() if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_how_to_use_it_is_said(path: Path) -> None:
    place = path.relative_to(ROOT)

    assert any(str(folder) in HOW_TO for folder in (place.with_suffix(""), *place.parents[:-2]))


def test_every_path_of_deploy_that_is_said_exists() -> None:
    said = set(re.findall(r"\bdeploy/[\w./-]*\w", HOW_TO)) - {"deploy/compose/.env"}

    assert [path for path in sorted(said) if not (ROOT / path).exists()] == []
