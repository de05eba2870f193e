"""Only who owns the tables may erase: the role that serves requests is told so."""

import os
import subprocess
import sys

import pytest

from tests.support.installation import ROOT, Demo

pytestmark = [pytest.mark.server, pytest.mark.database]


@pytest.mark.skipif("DATABASE_URL" in os.environ, reason="one role does everything there")
def test_the_role_that_serves_requests_may_not_erase(demo: Demo) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "workspaces", "erase", "DEMO", "--yes"], cwd=ROOT,
        env=demo.environment(APPERATE_DATABASE_ROLE="app"), capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 1
    assert "set DATABASE_OWNER_URL" in done.stderr and "Traceback" not in done.stderr
    assert "ACTIVE" in demo.manage("tokens", "list", "DEMO").upper()
