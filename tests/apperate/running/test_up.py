"""`manage.py up` starts everything, refuses wrong values in one line, and leaves nothing behind."""

import ipaddress
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured

from apperate.accounts.models import Workspace
from apperate.kernel import keyring
from apperate.management.commands import up
from apperate.running import listening, supervisor
from apperate.running.supervisor import ChildFailed, Pause, Program
from tests.support.factories import TokenFactory
from tests.support.installation import ROOT, Demo, Installation, free_port, started, until
from tokens.models import Secret
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.slow("each starts `manage.py up`: 2 to 10 s")

EVERYWHERE = str(ipaddress.ip_address(0))
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux has /proc")


@pytest.fixture
def installation() -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="apperate-up-") as folder:
        installation = Installation(Path(folder) / "data")
        yield installation
        installation.end()


class New(Demo):
    begins_new = True


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    """One installation with the demo, that several tests look at."""
    with started(New) as installation:
        yield installation


# --- it runs ------------------------------------------------------------------------------------


@pytest.mark.server
def test_up_answers_and_says_where(running: Installation) -> None:
    assert running.status() is not None
    assert f"Apperate runs at http://127.0.0.1:{running.port}" in running.said()
    assert "Sign in as " in running.said()
    assert "Traceback" not in running.said()


@pytest.mark.server
def test_up_makes_the_demo_only_where_nobody_works_yet(installation: Installation) -> None:
    installation.begins_new = True
    installation.start()

    assert "Making the demo" not in installation.said()
    assert "Nobody can sign in yet: `manage.py createworkspace`" in installation.said()


@pytest.mark.check("S57")
@pytest.mark.server
@needs_proc
def test_the_children_have_the_role_that_may_not_change_tables(running: Installation) -> None:
    """S57: what answers requests and runs jobs does not connect as the owner of the tables."""
    server = running.pids("apperate.running.server")
    jobs = running.pids("procrastinate worker")

    assert (len(server), len(jobs)) == (3, 1)
    for pid in (*server, *jobs):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert b"APPERATE_DATABASE_ROLE=owner" not in environment
        assert (b"APPERATE_POOLED=1" in environment) is (pid in server)


@pytest.mark.server
@needs_proc
def test_a_killed_worker_is_back_within_two_seconds_and_the_other_answers(running: Installation) -> None:
    """E-W1: killing one worker again and again takes nothing else with it."""
    main, *_ = running.pids("apperate.running.server")
    for _ in range(3):
        worker = running.pids("apperate.running.server")[-1]
        started = time.monotonic()

        os.kill(worker, signal.SIGKILL)

        until(lambda: len(running.pids("apperate.running.server")) == 3, seconds=5)
        assert time.monotonic() - started < 4  # twice the mark: other tests may share the machine
        until(lambda: running.status() is not None, seconds=5)
    assert running.pids("apperate.running.server")[0] == main


@pytest.mark.server
@needs_proc
def test_a_killed_server_and_killed_background_work_are_started_again(running: Installation) -> None:
    for words in ("apperate.running.server", "procrastinate worker"):
        before = running.pids(words)

        os.kill(before[0], signal.SIGKILL)

        until(lambda words=words, before=before: set(running.pids(words)).isdisjoint(before))
        until(lambda words=words, before=before: len(running.pids(words)) == len(before))
    until(lambda: running.status() is not None)
    assert "The server was ended by SIGKILL; it is started again in " in running.said()
    assert "The background work was ended by SIGKILL; it is started again in " in running.said()


@pytest.mark.server
@needs_proc
def test_a_second_up_on_the_same_port_is_refused(running: Installation) -> None:
    done = running.run()

    assert done.returncode == 2
    assert f"PORT={running.port} is in use on 127.0.0.1" in done.stderr
    assert running.status() is not None


@pytest.mark.server
def test_a_second_up_on_the_same_data_is_refused_and_says_who_runs(running: Installation) -> None:
    note = running.home / up.URL_FILE
    written = note.read_text()

    done = running.run(PORT=str(free_port()))

    assert done.returncode == 1
    assert f"already (process {running.process.pid}, http://127.0.0.1:{running.port})" in done.stderr
    assert (note.read_text(), running.status()) == (written, 200)


def test_of_many_who_start_at_the_same_moment_one_has_the_port() -> None:
    """The address is not let go between the look at it and the server that takes it."""
    port = free_port()
    held = []
    for _ in range(5):
        try:
            held.append(listening.hold("127.0.0.1", port, 2))
        except ImproperlyConfigured as error:
            assert f"PORT={port} is in use on 127.0.0.1" in str(error)
    assert len(held) == 1
    with closing(held[0]):
        held[0].listen()
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "unix"])
def test_an_address_can_be_held_again_at_once_though_connections_were_open(host: str, tmp_path: Path) -> None:
    """What is left of connections that the server closed first is no obstacle to the next start."""
    host = f"unix:{tmp_path}/a socket" if host == "unix" else host
    port = free_port()
    for _ in range(2):
        with closing(listening.hold(host, port, 2)) as held:
            held.listen()
            with pytest.raises(ImproperlyConfigured, match="is in use|another program listens there"):
                listening.hold(host, port, 2)
            with socket.socket(held.sockets[0].family) as client:
                client.connect(held.sockets[0].getsockname())
                for one in set(held.sockets):
                    one.settimeout(0.2)
                    with suppress(TimeoutError):
                        one.accept()[0].close()
    assert list(tmp_path.iterdir()) == []


def test_the_path_of_a_socket_is_checked_and_what_a_killed_server_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with pytest.raises(ImproperlyConfigured, match="is no absolute path"):
        listening.hold("unix:relative", 0, 1)
    with pytest.raises(ImproperlyConfigured, match="No such file or directory"):
        listening.hold(f"unix:{tmp_path}/none/socket", 0, 1)
    path.touch()
    with pytest.raises(ImproperlyConfigured, match="there is a file that is no socket"):
        listening.hold(f"unix:{path}", 0, 1)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    with closing(listening.hold(f"unix:{path}", 0, 1)):
        assert path.stat().st_mode & 0o777 == 0o660


# --- it ends ------------------------------------------------------------------------------------


@pytest.mark.server
@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_stop_signal_leaves_no_process(installation: Installation, number: int) -> None:
    installation.start()

    installation.process.send_signal(number)

    assert installation.process.wait(25) == 0
    assert installation.left() == {}
    assert "Traceback" not in installation.said()


@pytest.mark.server
@needs_proc
def test_kill_9_of_up_leaves_no_process(installation: Installation) -> None:
    installation.start()

    installation.process.kill()

    installation.process.wait()
    until(lambda: installation.left() == {})


@pytest.mark.server
@needs_proc
def test_kill_9_of_up_and_of_the_main_server_process_leaves_no_process(installation: Installation) -> None:
    installation.start()
    main = installation.pids("apperate.running.server")[0]

    os.kill(main, signal.SIGSTOP)
    installation.process.kill()
    os.kill(main, signal.SIGKILL)

    installation.process.wait()
    until(lambda: installation.left() == {})


@pytest.mark.server
@needs_proc
def test_a_second_start_is_quick_and_collects_no_files_again(installation: Installation) -> None:
    installation.begins_new = True
    began = time.monotonic()
    installation.start()
    first_seconds = time.monotonic() - began
    stamp = installation.home / "static" / ".collected"
    collected_at = stamp.stat().st_mtime_ns
    installation.process.terminate()
    installation.process.wait()
    installation.log.write_text("")
    began = time.monotonic()

    installation.start()

    assert time.monotonic() - began < first_seconds
    assert stamp.stat().st_mtime_ns == collected_at


# --- it refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "abc", "PORT='abc' is not a whole number from 1 to 65535"),
        ("PORT", "0", "PORT=0 is out of range"),
        ("PORT", "65536", "PORT=65536 is out of range"),
        ("HOST", "", "HOST is empty: use 127.0.0.1"),
        ("HOST", EVERYWHERE, "APPERATE_ALLOW_HTTP=1"),
        ("HOST", "::", "APPERATE_ALLOW_HTTP=1"),
        ("HOST", "unix:/run/a.sock", "set APPERATE_PUBLIC_URL to that of the proxy in front"),
        ("APPERATE_WORKERS", "0", "APPERATE_WORKERS=0 is out of range: use a whole number from 1 to 64"),
        ("APPERATE_WORKERS", "two", "APPERATE_WORKERS='two' is not a whole number"),
        ("APPERATE_ACTIVATION_SECONDS", "-1", "APPERATE_ACTIVATION_SECONDS=-1 is out of range"),
        ("APPERATE_PUBLIC_URL", "ftp://x", "APPERATE_PUBLIC_URL='ftp://x' is not valid"),
        ("DATABASE_URL", "mysql://u:secret@h/d", "DATABASE_URL must begin with postgresql://"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(
    installation: Installation, name: str, value: str, words: str
) -> None:
    done = installation.run(**{name: value})

    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.returncode == 2
    assert "secret" not in done.stderr
    assert not (installation.home / "db").exists()


def test_no_programs_for_the_embedded_database_is_one_line(installation: Installation) -> None:
    done = installation.run(PG_BIN_DIR="/no/such")

    assert "PG_BIN_DIR=/no/such" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.returncode != 0


def test_a_database_that_does_not_answer_is_one_line(installation: Installation) -> None:
    url = f"postgresql://u:secret@127.0.0.1:{free_port()}/data"
    done = installation.run(DATABASE_URL=url)

    assert "connection failed" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.returncode != 0
    assert "secret" not in done.stderr


def test_open_http_is_allowed_when_the_operator_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    up.refuse_open_http("127.0.0.2")
    up.refuse_open_http("::1")
    up.refuse_open_http("localhost")
    up.refuse_open_http("unix:/run/apperate.sock")
    with pytest.raises(ImproperlyConfigured, match="in clear"):
        up.refuse_open_http(EVERYWHERE)

    monkeypatch.setenv("APPERATE_ALLOW_HTTP", "1")

    up.refuse_open_http(EVERYWHERE)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="cannot be listened on"):
        listening.hold("192.0.2.1", 8000, 2)


# --- the parts ----------------------------------------------------------------------------------


def child(program: str) -> Program:
    command = [sys.executable, "-c", program]
    return Program(name="The child", command=command, environment=dict(os.environ), directory=ROOT)


def test_a_child_that_ends_before_it_is_ready_is_a_failure() -> None:
    failing = child("raise SystemExit(3)")
    failing.start()

    with pytest.raises(ChildFailed, match="The child ended with exit code 3"):
        supervisor.wait_until_ready([failing], lambda: False, seconds_max=10)


def test_a_server_that_never_answers_is_a_failure() -> None:
    silent = child("import time; time.sleep(60)")
    silent.start()

    with pytest.raises(ChildFailed, match="did not answer within 0 s"):
        supervisor.wait_until_ready([silent], lambda: False, seconds_max=0.1)
    supervisor.stop([silent])

    assert not silent.is_running()


def test_a_child_that_keeps_ending_is_started_again_after_growing_pauses() -> None:
    failing = child("raise SystemExit(3)")
    failing.pause = Pause(0.01, 0.04)
    failing.start()
    failing.is_ready = True
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 8:
            raise supervisor.StopAsked

    with pytest.raises(supervisor.StopAsked):
        supervisor.watch([failing], say=say, each_second=lambda: None)

    pauses = ["0.01", "0.02", *["0.04"] * 6]
    assert said == [
        f"The child ended with exit code 3; it is started again in {pause} s." for pause in pauses
    ]


def test_a_child_that_ran_for_a_minute_is_started_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STABLE_SECONDS", 0.0)
    ended = child("raise SystemExit(3)")
    while ended.pause.take() < ended.pause.seconds_max:
        pass
    ended.start()
    ended.is_ready = True

    def say(line: str) -> None:
        assert line.endswith("it is started again in 0.5 s.")
        raise supervisor.StopAsked

    with pytest.raises(supervisor.StopAsked):
        supervisor.watch([ended], say=say, each_second=lambda: None)


def test_stop_ends_what_the_child_started_too() -> None:
    parent = child(
        "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    )
    parent.start()

    supervisor.stop([parent])

    with pytest.raises(ProcessLookupError):
        os.killpg(parent.process.pid, 0)


def test_one_wish_to_stop_may_arrive_as_two_signals() -> None:
    with supervisor.stop_signals():
        with pytest.raises(supervisor.StopAsked):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


@pytest.mark.django_db
def test_a_lost_key_file_is_no_reason_to_make_a_new_one_in_silence(
    settings: LazySettings, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATA_DIR = tmp_path
    monkeypatch.delenv(keyring.KEYS_VARIABLE, raising=False)
    up.refuse_lost_keys()  # Nothing was encrypted yet.

    token = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)
    Secret.objects.filter(token=token).update(clear=None, ciphertext=b"sealed")
    with pytest.raises(ImproperlyConfigured, match="is gone, and the database holds secrets"):
        up.refuse_lost_keys()
    assert list(tmp_path.iterdir()) == []

    monkeypatch.setenv(keyring.KEYS_VARIABLE, keyring.new_key())
    up.refuse_lost_keys()
    monkeypatch.delenv(keyring.KEYS_VARIABLE)
    (tmp_path / keyring.KEY_FILE).write_text(keyring.new_key())
    up.refuse_lost_keys()
