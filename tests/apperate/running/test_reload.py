"""`manage.py reload` and SIGHUP: new processes take over before the old ones end, and nobody notices."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from apperate.running import listening
from tests.support.installation import ROOT, Installation, until

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow("one start of `manage.py up`, and four of its server: 20 s"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux has /proc"),
]
FOLDERS = ("apperate", "datasets", "tokens", "templates", "static", "docs", "demo")


class Checkout(Installation):
    """An installation that runs from a copy of this checkout, which tests may change."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.root = home.with_name("checkout")
        self.root.mkdir()
        for name in FOLDERS:
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copy(ROOT / "manage.py", self.root)

    def change(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def reload(self) -> subprocess.CompletedProcess[str]:
        command = [os.sys.executable, "manage.py", "reload"]
        return subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, check=False
        )

    def servers(self) -> set[int]:
        return set(self.pids("apperate.running.server"))


@pytest.fixture(scope="module")
def checkout() -> Iterator[Checkout]:
    with tempfile.TemporaryDirectory(prefix="apperate-reload-") as folder:
        checkout = Checkout(Path(folder) / "data")
        try:
            checkout.start()
            yield checkout
        finally:
            checkout.end()


class Clients:
    """Clients that ask without a pause, some on kept connections; what they could not get."""

    def __init__(self, port: int, *, kept: int = 4, fresh: int = 2) -> None:
        self.port = port
        self.answers, self.told_to_close, self.failures = 0, 0, []
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number < kept,)) for number in range(kept + fresh)
        ]

    def _ask(self, keeps: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self._end.wait(0.005):
            try:
                connection.request("GET", "/v1/status")
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            self.answers += 1
            self.told_to_close += answer.headers["Connection"] == "close"
            if answer.status != 200:
                self.failures.append(str(answer.status))
            if not keeps:
                connection.close()
        connection.close()

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        until(lambda: self.answers > 50)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def test_a_reload_takes_the_new_version_and_fails_no_request(checkout: Checkout) -> None:
    """E-W2: 0 failed requests, on kept connections too; static files and code are those of the checkout."""
    before = checkout.servers()
    jobs = checkout.pids("procrastinate worker")
    checkout.change("apperate/http/health.py", 'return plain("ok")', 'return plain("the new version")')
    (checkout.root / "static" / "new.txt").write_text("new\n")

    with Clients(checkout.port) as clients:
        done = checkout.reload()
        until(lambda: not before & checkout.servers(), seconds=60)

    assert (done.returncode, done.stdout) == (0, "Reloaded.\n"), done.stderr
    assert (clients.failures, clients.told_to_close > 0) == ([], True)
    assert len(checkout.servers()) == 3
    until(lambda: len(checkout.pids("procrastinate worker")) == 1)
    assert checkout.pids("procrastinate worker") != jobs
    with closing(http.client.HTTPConnection("127.0.0.1", checkout.port, timeout=30)) as connection:
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b"the new version\n"
    assert list((checkout.home / "static").glob("new.*.txt"))


@pytest.mark.parametrize(
    ("path", "old", "new", "problem"),
    [
        ("apperate/settings.py", "import os\n", "import os ha\n", "invalid syntax"),
        ("apperate/asgi.py", "import gc\n", "import gone\n", "The server ended with exit code 1"),
    ],
    ids=["it cannot be prepared", "it does not start"],
)
def test_a_version_that_cannot_run_changes_nothing(
    checkout: Checkout, path: str, old: str, new: str, problem: str
) -> None:
    before = checkout.servers(), checkout.pids("procrastinate worker")
    count = checkout.said().count("Not reloaded: ")
    checkout.change(path, old, new)
    runner = listening.who_runs(checkout.home)
    assert runner is not None

    os.kill(runner.pid, signal.SIGHUP)  # `manage.py` itself may be what is broken.

    until(lambda: checkout.said().count("Not reloaded: ") == count + 1, seconds=60)
    checkout.change(path, new, old)
    assert re.search(f"Not reloaded: .*{problem}.*What ran goes on", checkout.said())
    assert (checkout.servers(), checkout.pids("procrastinate worker")) == before
    assert checkout.status() == 200
    until(lambda: problem in getattr(listening.who_runs(checkout.home), "problem", ""))


def test_a_stop_lets_begun_requests_finish_and_waits_for_no_kept_connection(checkout: Checkout) -> None:
    """E-W2: SIGTERM cuts nothing; the whole is gone soon, although somebody keeps a connection open."""
    address = ("127.0.0.1", checkout.port)
    with (
        closing(http.client.HTTPConnection(*address, timeout=60)) as kept,
        closing(http.client.HTTPConnection(*address, timeout=60)) as begun,
    ):
        kept.request("GET", "/livez")
        kept.getresponse().read()
        begun.putrequest("POST", "/v1/data/ANY/ID?token=pk_0")
        begun.putheader("Content-Length", "5000")
        begun.endheaders(b" " * 1000)

        checkout.process.terminate()
        until(lambda: "Stopping" in checkout.said())
        begun.send(b" " * 4000)
        answer = begun.getresponse()

        assert answer.status == 403
        began = time.monotonic()
        assert checkout.process.wait(60) == 0
        assert time.monotonic() - began < 40  # 2 s on a machine of its own
    assert checkout.left() == {}


def test_a_reload_of_nothing_says_so(checkout: Checkout) -> None:
    done = checkout.reload()

    assert done.returncode == 1
    assert (
        done.stderr
        == f"CommandError: No `manage.py up` runs on {checkout.home}: start it, or set APPERATE_DATA_DIR.\n"
    )
