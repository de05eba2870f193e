"""Old data, lost keys and crashes: the embedded database ends up with its data and a key that opens it."""

import fcntl
import logging
import os
from pathlib import Path

import psycopg
import pytest

from apperate.database.embedded import access, launcher, watcher
from tests.support.embedded.embedded_clusters import (
    assert_closed,
    assert_row_is_kept,
    make_old_cluster,
    passwords,
    psql,
    run_programs,
    start_old_server,
)
from tests.support.embedded.embedded_users import Users, connect, needs_root, ordinary_account, server_pid

pytestmark = pytest.mark.slow("each starts a database server of its own: 3 to 13 s")

# --- data of an earlier version -----------------------------------------------------------------


@pytest.mark.check("S57")
def test_the_data_of_an_earlier_version_is_brought_over(
    users: Users, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_old_cluster(data)

    with caplog.at_level(logging.WARNING):
        launcher.ensure(data)

    assert_closed(data)
    assert_row_is_kept(data)
    assert [record.getMessage() for record in caplog.records] == [
        f"The embedded database had no key file: new passwords are in {access.key_file(data)}."
    ]
    launcher.release(data)


@pytest.mark.parametrize("done", ["key", "one role"])
def test_a_crash_while_it_was_brought_over_is_completed(users: Users, data: Path, done: str) -> None:
    make_old_cluster(data)
    access.make_key(data)
    if done == "one role":
        first = access.password_statements(data).splitlines(keepends=True)[0]
        run_programs(data, (launcher._single_user("pg"), first))
    data.with_name(".db.key.new").write_text("half")
    key = access.key_file(data).read_bytes()

    users.start_ready()

    assert_closed(data)
    assert_row_is_kept(data)
    assert access.key_file(data).read_bytes() == key


def test_a_server_of_an_earlier_version_is_waited_for_when_nobody_uses_it(users: Users, data: Path) -> None:
    """A quick restart after an update does not go on with the open server."""
    make_old_cluster(data)
    start_old_server(data)
    pid = server_pid(data)

    users.start_ready()

    assert server_pid(data) != pid
    assert_closed(data)
    assert_row_is_kept(data)


def test_a_server_of_an_earlier_version_in_use_is_left_alone_and_refused(
    users: Users, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "HANDOVER_SECONDS_MAX", 1)
    make_old_cluster(data)
    held = watcher.open_plain(data / ".users.lock")
    fcntl.flock(held, fcntl.LOCK_SH)
    start_old_server(data)
    socket = {"host": str(launcher.socket_dir(data)), "port": 5432, "dbname": "apperate"}

    with psycopg.connect(**socket, user="apperate_owner") as before:
        with pytest.raises(launcher.EmbeddedPostgresError, match="Stop every process of Apperate"):
            launcher.ensure(data)

        assert before.execute("SELECT name FROM kept").fetchall() == [("one",)]
    with pytest.raises(psycopg.OperationalError, match="auth"):
        connect(data)  # A server that asks for no password is not believed.
    os.close(held)
    users.start_ready()
    assert_closed(data)


# --- the key file -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "*:*:*:apperate_app:short\n"], ids=["lost", "damaged"])
def test_a_lost_key_is_made_anew_and_the_data_stays(users: Users, data: Path, text: str | None) -> None:
    make_old_cluster(data)
    launcher.ensure(data)
    old = passwords(data)
    launcher.release(data)
    if text is None:
        access.key_file(data).unlink()
    else:
        access.key_file(data).write_text(text)

    users.start_ready()

    assert_closed(data)
    assert_row_is_kept(data)
    assert not set(old.values()) & set(passwords(data).values())
    for role, password in old.items():
        assert psql(data, role, password=password).returncode == 2


def test_a_key_lost_while_others_use_the_server_is_refused_in_one_sentence(
    users: Users, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "HANDOVER_SECONDS_MAX", 0.3)
    users.start_ready()
    pid = server_pid(data)
    access.key_file(data).unlink()

    with pytest.raises(launcher.EmbeddedPostgresError, match="does not open it") as refused:
        launcher.ensure(data)

    assert "\n" not in str(refused.value)
    assert server_pid(data) == pid
    users.end()
    users.start_ready()
    assert_closed(data)


def test_a_key_that_others_can_open_is_mended(
    users: Users, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access.make_key(data)
    access.key_file(data).chmod(0o644)

    with caplog.at_level(logging.WARNING):
        access.make_key(data)

    assert access.key_file(data).stat().st_mode & 0o777 == 0o600
    assert "could be opened by others" in caplog.text
    users.start_ready()
    assert_closed(data)


@needs_root
def test_a_key_of_another_account_is_refused(users: Users, data: Path) -> None:
    access.make_key(data)
    os.chown(access.key_file(data), 65534, 65534)

    with pytest.raises(launcher.EmbeddedPostgresError, match="is of account number 65534") as refused:
        launcher.ensure(data)

    assert "or remove it" in str(refused.value)
    assert not (data / "pg").exists()


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "folder"])
def test_a_key_that_is_no_plain_file_is_refused(users: Users, data: Path, kind: str) -> None:
    target, key = data.with_name("target"), access.key_file(data)
    target.write_text("of somebody\n")
    {"symbolic link": key.symlink_to, "hard link": key.hardlink_to, "folder": lambda _: key.mkdir()}[kind](
        target
    )

    with pytest.raises(launcher.EmbeddedPostgresError, match="is of account|cannot be used"):
        launcher.ensure(data)

    assert target.read_text() == "of somebody\n"


@needs_root
def test_root_and_an_ordinary_account_share_one_key(home: Path) -> None:
    """Also when root was first: the key belongs to the owner of its folder."""
    nobody = ordinary_account()
    users = Users(home / "db")
    users.data.mkdir()
    for path in (home, users.data):
        os.chown(path, nobody["user"], nobody["group"])
    make_old_cluster(users.data)

    users.start_ready()
    key = access.key_file(users.data).read_bytes()
    users.end()
    users.start_ready(**nobody)

    assert access.key_file(users.data).stat().st_uid == nobody["user"]
    assert access.key_file(users.data).read_bytes() == key
    assert_row_is_kept(users.data)
    users.end()


def test_the_watcher_is_known_by_the_file_it_runs() -> None:
    """Of another program with its number nobody ends anything; a move of the file must not make it one."""
    assert any(os.fsencode(watcher.__file__).endswith(name) for name in launcher.WATCHER_NAMES)
