"""The last release, from the history of this checkout: its servers go on with the tables of this version.

COMMIT              the release; a new one moves it together with apperate/database/schema/released.py
need_history()      skips a test where the checkout holds no history, as a shallow clone does
unpacked(folder)    the files of that commit, below the folder
"""

import subprocess
from pathlib import Path

import pytest

from tests.support.installation import ROOT

COMMIT = "e313d4afd9db89c754f1bcc59d6973bb9e683076"


def need_history() -> None:
    try:
        found = subprocess.run(
            ["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no git to take the version before from")
    if found.returncode:
        pytest.skip(f"this checkout holds no history: commit {COMMIT[:8]}, the version before, is not in it")


def unpacked(folder: Path) -> Path:
    """The folder, with every file of the release in it."""
    need_history()
    folder.mkdir(parents=True)
    packed = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
    return folder
