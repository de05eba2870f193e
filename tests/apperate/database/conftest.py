"""A folder for an embedded database, and processes that use it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.embedded.embedded_users import Users


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that every account of the machine can enter, as /srv is."""
    home = Path(tempfile.mkdtemp(prefix="apperate-test-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home)


@pytest.fixture
def users(home: Path) -> Iterator[Users]:
    users = Users(home / "db")
    yield users
    users.end()


@pytest.fixture
def data(users: Users) -> Path:
    return users.data
