"""A PostgreSQL of the experiment's own, reached by TCP: Debian's, or the programs of the embedded server.

with external(port) as cluster: Stage(home, cluster.url)
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from apperate.database.embedded import binaries, launcher
from tests.support.installation import free_port, until
from tests.torture.stage import children_of

PASSWORD = "for one experiment"
SHARED = ["-c", "fsync=on", "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=150"]


class Cluster:
    """One cluster in a folder of its own; `environment` is what its server runs with."""

    def __init__(self, folder: Path, found: binaries.Binaries, account: binaries.Account) -> None:
        self.folder, self.binaries, self.account = folder, found, account
        self.port = free_port()
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_by(self.port)

    def url_by(self, port: int) -> str:
        """Its address by another port, that of a proxy. Without TLS, so that the proxy can read along."""
        secret = PASSWORD.replace(" ", "%20")
        given = "sslmode=disable&gssencmode=disable"
        return f"postgresql://apperate:{secret}@127.0.0.1:{port}/apperate?{given}"

    def make(self) -> None:
        words = self.folder / "password"
        words.write_text(PASSWORD)
        if self.account.uid is not None:
            for path in (self.folder, words):
                os.chown(path, self.account.uid, self.account.gid or 0)
        arguments = ["-D", str(self.folder / "data"), "-U", "apperate", "-A", "scram-sha-256", "-E", "UTF8"]
        subprocess.run(
            [self.binaries.folder / "initdb", *arguments, "--locale=C", f"--pwfile={words}", "--no-sync"],
            check=True, capture_output=True, cwd="/", env=self.environment, **self.account.drop(),
        )  # fmt: skip

    def start(self) -> None:
        command = [self.binaries.folder / "postgres", "-D", self.folder / "data", "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "-c", f"unix_socket_directories={self.folder}", *SHARED],
                cwd="/", env=self.environment, stdout=log, stderr=log, **self.account.drop(),
            )  # fmt: skip
        until(self.answers, seconds=60, said=(self.folder / "log").read_text)

    def answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), self.connect("postgres"):
            return True
        return False

    def connect(self, database: str = "apperate") -> "psycopg.Connection[Any]":
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="apperate", password=PASSWORD, dbname=database,
            autocommit=True, connect_timeout=5,
        )  # fmt: skip

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """Stop it at once, as when its machine goes; wait until it is gone."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None

    def kill(self) -> None:
        """kill -9 of the server and all it started."""
        assert self.process is not None
        for pid in (self.process.pid, *children_of(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        # As a service manager does it. A server that was killed leaves its mark.
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)


@contextlib.contextmanager
def external(**environment: str) -> Iterator[Cluster]:
    """A running cluster with an empty database `apperate`; nothing of it is left behind."""
    folder = Path(tempfile.mkdtemp(prefix="apperate-cluster-"))
    account = launcher._server_account(folder) if os.geteuid() == 0 else binaries.Account()
    cluster = Cluster(folder, binaries.runnable_by(account, programs(), folder), account)
    cluster.environment |= environment
    try:
        folder.chmod(0o755)
        cluster.make()
        cluster.start()
        with cluster.connect("postgres") as connection:
            connection.execute("CREATE DATABASE apperate")
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def programs() -> binaries.Binaries:
    """The oldest PostgreSQL that is supported, where this machine has it; else what there is."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        if int(folder.parent.name) >= binaries.OLDEST_MAJOR and (folder / "initdb").exists():
            return binaries.Binaries(folder, int(folder.parent.name))
    return binaries.find()
