"""The README's commands and first calls do what it says, on an installation that `manage.py up` starts."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Installation, started

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
LINES_MAX = 200
HOST = "127.0.0.1:8000"
PLACE_OF_THE_TOKEN = "pk_…"
COMMAND_SECONDS_MAX = 120


def blocks(language: str) -> list[str]:
    """The code blocks in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@dataclass
class Reader:
    """Somebody who copies from the README: the installation they started, and what its demo printed."""

    installation: Installation
    demo: dict[str, Any]

    def run(self, *command: str, code: str = "") -> str:
        """What the command printed, with the code on its standard input."""
        done = subprocess.run(
            command,
            input=self.fill_in(code),
            text=True,
            encoding="utf-8",
            capture_output=True,
            cwd=ROOT,
            env=self.installation.environment(APPERATE_DEMO="1"),
            timeout=COMMAND_SECONDS_MAX,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fill_in(self, code: str) -> str:
        """The code with this installation's address and the demo's publishable token."""
        if PLACE_OF_THE_TOKEN in code:
            code = code.replace(PLACE_OF_THE_TOKEN, self.demo["publishable_token"])
        return code.replace(HOST, f"127.0.0.1:{self.installation.port}")


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with started(Installation) as installation:
        reader = Reader(installation, {})
        command = blocks("sh")[0].strip()
        assert command == ".venv/bin/python manage.py demo --json"
        # The tests may run from another environment than the one `make` builds.
        reader.demo = json.loads(reader.run(sys.executable, *command.split()[1:]))
        yield reader


@pytest.mark.server
def test_the_demo_prints_a_publishable_token(reader: Reader) -> None:
    assert reader.demo["publishable_token"].startswith("pk_")
    assert reader.demo["workspace"] in README


@pytest.mark.server
def test_the_call_with_curl_prints_what_the_readme_shows(reader: Reader) -> None:
    assert shutil.which("curl"), "the README's first call needs curl"

    printed = reader.run("sh", "-eu", code=blocks("sh")[1])

    assert json.loads(printed) == json.loads(blocks("json")[0])


@pytest.mark.server
def test_the_call_with_python_prints_five_days_of_two_shares(reader: Reader) -> None:
    printed = reader.run(sys.executable, "-", code=blocks("python")[0])

    lines = printed.splitlines()
    assert [line.split()[0] for line in lines] == ["AAPL"] * 5 + ["MSFT"] * 5
    assert lines[0].startswith("AAPL 2013-03-01 ")


@pytest.mark.server
def test_the_call_with_javascript_prints_three_cars(reader: Reader) -> None:
    node = shutil.which("node")
    if node is None and not os.environ.get("CI"):
        pytest.skip("there is no node on this machine; with CI set this fails")
    assert node, "the README's JavaScript is run by node, and there is none: install nodejs"

    printed = reader.run(node, "--input-type=module", "-", code=blocks("js")[0])

    assert len(printed.splitlines()) == 3


# --- without a server -----------------------------------------------------------------------------


def test_the_two_commands_are_targets_of_make() -> None:
    """`make run` is what starts the installation above, by manage.py up; `make test` runs this test."""
    commands = re.findall(r"^    make (\w+)$", README, re.MULTILINE)

    assert commands == ["run", "test"]
    for target in commands:
        recipe = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, text=True, capture_output=True, check=True
        ).stdout
        assert {"run": "manage.py up", "test": "-m pytest"}[target] in recipe


def test_the_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)

    assert pictures == ["docs/pictures/token-form-light.png"]
    assert (ROOT / pictures[0]).read_bytes().startswith(b"\x89PNG")


def test_every_picture_is_shown_and_small() -> None:
    """A picture of each page, and a recording; a clone stays small."""
    folder = ROOT / "docs" / "pictures"
    shown = re.findall(r"!\[[^]]+\]\(pictures/([^)]+)\)", (ROOT / "docs/pictures.md").read_text())
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}

    assert sorted(shown) == sorted(sizes)
    assert all(link in README for link in ("(docs/pictures.md)", "(docs/pictures/token-created.gif)"))
    assert [
        name for name, size in sizes.items() if size > (1_000_000 if name.endswith(".gif") else 150_000)
    ] == []
    assert sum(sizes.values()) < 2_500_000


def test_no_secret_token_is_shown_and_the_warning_is() -> None:
    assert "NEVER share your secret token publicly" in README
    assert not re.search(r"sk_[0-9a-f]", README)
    assert all("sk_" not in block for language in ("sh", "python", "js") for block in blocks(language))


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) < LINES_MAX
