"""New values, copies, and new keys for what is encrypted."""

import threading
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database import sealing
from apperate.database.changes import changes
from apperate.database.clock import database_now
from apperate.kernel import keyring
from apperate.kernel.refusals import Refusal
from datasets.models import Dataset
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory, WorkspaceFactory
from tokens.models import CreditWindow, Secret, SigningSecret, Token
from tokens.rules.token_format import TokenKind
from tokens.rules.vocabulary import OVERLAPS
from tokens.services import lifecycle, rotation
from tokens.services.rotation import Rotated

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def token(prices: Dataset) -> Token:
    token = TokenFactory(workspace=prices.workspace, settings=False)
    RevisionFactory(
        token=token, saved_at=LONG_AGO, effective_at=LONG_AGO, grants={prices: "read"}, core_credit_limit=100
    )
    return token


@pytest.fixture
def key_file(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A key ring of this test's own, in a file."""
    monkeypatch.delenv(keyring.KEYS_VARIABLE, raising=False)
    settings.DATA_DIR = tmp_path
    sealing.keys.cache_clear()
    yield tmp_path / keyring.KEY_FILE
    sealing.keys.cache_clear()


def rotate(token: Token, seconds: int, now: datetime | None = None) -> Rotated:
    rotated = rotation.rotate(token=token, overlap_seconds=seconds, by=None, now=now or database_now())
    assert isinstance(rotated, Rotated), rotated
    return rotated


def status(api: DataPlaneClient, value: str) -> int:
    return api.get("/v1/data/ACME/PRICES", headers={"X-API-Key": value}).status


# --- rotating -----------------------------------------------------------------------------------


def test_the_new_value_works_at_once_and_the_old_one_for_the_overlap(
    api: DataPlaneClient, token: Token
) -> None:
    old = token.test_value
    assert status(api, old) == 200

    new = rotate(token, 3_600).value

    api.run(changes.poll())
    assert (status(api, old), status(api, new)) == (200, 200)
    Secret.objects.filter(retires_at__isnull=False).update(retires_at=database_now())
    lifecycle.set_nickname(token=token, nickname="stamped", by=None, now=database_now())
    api.run(changes.poll())
    assert (status(api, old), status(api, new)) == (403, 200)


def test_without_an_overlap_the_old_value_ends_at_once(api: DataPlaneClient, token: Token) -> None:
    assert status(api, token.test_value) == 200

    new = rotate(token, 0).value

    api.run(changes.poll())
    assert (status(api, token.test_value), status(api, new)) == (403, 200)


def test_a_cached_old_value_ends_when_its_overlap_does(api: DataPlaneClient, token: Token) -> None:
    """No worker need be told at that moment: the snapshot carries the time."""
    rotate(token, 3_600, now=database_now() - timedelta(seconds=3_599))

    statuses = {status(api, token.test_value)}
    while 403 not in statuses:
        statuses.add(status(api, token.test_value))

    assert statuses <= {200, 403}


def test_a_second_rotation_ends_the_first_overlap(api: DataPlaneClient, token: Token) -> None:
    first = rotate(token, 604_800).value
    second = rotate(token, 604_800).value

    api.run(changes.poll())

    assert [status(api, value) for value in (token.test_value, first, second)] == [403, 200, 200]


def test_everything_but_the_value_stays(token: Token) -> None:
    CreditWindow.objects.create(token=token, month=database_now().date().replace(day=1), used=7)
    before = (token.public_id, token.nickname, token.revisions.count())
    old_value = token.value

    rotate(token, 0)

    token = Token.objects.get(pk=token.pk)
    assert (token.public_id, token.nickname, token.revisions.count()) == before
    assert CreditWindow.objects.get(token=token).used == 7
    assert token.value not in ("", old_value)


def test_the_secret_token_is_rotated_encrypted(workspace: Workspace) -> None:
    token = lifecycle.create_secret_token(workspace=workspace, by=None, now=LONG_AGO)

    value = rotate(token, 0).value

    stored = Secret.objects.current().get(token=token)
    assert value.startswith("sk_") and stored.clear is None
    assert lifecycle.reveal_secret(token=token, by=None, now=database_now(), address="") == value


@pytest.mark.check("S01")
def test_the_audit_row_holds_no_value(token: Token, owner: User) -> None:
    rotated = rotation.rotate(
        token=token, overlap_seconds=0, by=owner, now=database_now(), address="192.0.2.1"
    )

    assert isinstance(rotated, Rotated)
    row = AuditEvent.objects.get(action="token.rotated")
    assert (row.actor, row.target, row.address) == (owner.email, token.public_id, "192.0.2.1")
    assert rotated.value not in str(row.after) and token.test_value not in str(row.before)
    assert rotated.value not in repr(rotated)


@pytest.mark.parametrize("seconds", [-1, 1, 3_599, 604_801, 10**12])
def test_only_the_offered_overlaps_are_taken(token: Token, seconds: int) -> None:
    refusal = rotation.rotate(token=token, overlap_seconds=seconds, by=None, now=database_now())

    assert isinstance(refusal, Refusal) and "3600" in (refusal.needed or "")
    assert set(OVERLAPS) == {0, 3_600, 86_400, 604_800}


def test_a_token_in_the_trash_is_not_rotated(token: Token) -> None:
    lifecycle.delete_token(token=token, by=None, now=database_now())

    assert isinstance(rotation.rotate(token=token, overlap_seconds=0, by=None, now=database_now()), Refusal)


# --- copies -------------------------------------------------------------------------------------


def test_a_copy_has_the_settings_and_a_value_of_its_own(token: Token, prices: Dataset) -> None:
    now = database_now()
    gone = DatasetFactory(workspace=prices.workspace, deleted_at=now)
    RevisionFactory(token=token, grants={prices: "read write", gone: "read"}, signed_requests=True)

    copy = lifecycle.duplicate_token(token=token, by=None, now=now)

    assert isinstance(copy, Token)
    settings, _ = lifecycle.saved(copy, now=now)
    assert settings.signed_requests and settings.grants == {prices.pk: frozenset({"read", "write"})}
    assert copy.nickname == f"Copy of {token.nickname}" and copy.public_id != token.public_id
    assert copy.value != token.test_value and copy.status(now=now) == "activating"
    assert SigningSecret.objects.filter(token=copy).exists()


def test_a_copy_counts_towards_the_plan(token: Token) -> None:
    token.workspace.plan = "launch"
    token.workspace.save()
    TokenFactory(workspace=token.workspace)

    refusal = lifecycle.duplicate_token(token=token, by=None, now=database_now())

    assert isinstance(refusal, Refusal) and refusal.code == "plan-required"


def test_the_secret_token_is_not_copied(workspace: Workspace) -> None:
    secret = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)

    assert isinstance(lifecycle.duplicate_token(token=secret, by=None, now=database_now()), Refusal)


# --- new keys -----------------------------------------------------------------------------------


def make_secrets(count: int) -> list[tuple[Token, str]]:
    found = []
    for _ in range(count):
        workspace = WorkspaceFactory()
        token = lifecycle.create_secret_token(workspace=workspace, by=None, now=LONG_AGO)
        value = lifecycle.reveal_secret(token=token, by=None, now=LONG_AGO, address="")
        publishable = TokenFactory(workspace=workspace)
        lifecycle.reveal_signing_secret(token=publishable, by=None, now=LONG_AGO, address="")
        found.append((token, value))
    return found


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("reencrypt", *arguments, stdout=out)
    return out.getvalue()


def test_reencrypting_puts_every_secret_under_the_new_key(key_file: Path) -> None:
    made = make_secrets(3)
    old_key = key_file.read_text()

    said = run("--new-key")

    assert "6 encrypted anew" in said
    assert key_file.read_text().endswith(old_key) and key_file.stat().st_mode & 0o777 == 0o600
    assert run().startswith("0 encrypted anew, 6 ")
    key_file.write_text(key_file.read_text().removesuffix(old_key))  # The old key is not needed any more.
    sealing.keys.cache_clear()
    for token, value in made:
        assert lifecycle.reveal_secret(token=token, by=None, now=LONG_AGO, address="") == value


@pytest.mark.check("S02")
def test_a_reader_sees_no_failure_while_keys_are_changed(key_file: Path) -> None:
    """S02: secrets are read in a loop while keys are added and everything is encrypted anew: no failure."""
    [(token, value)] = make_secrets(1)
    stop, faults, reads = threading.Event(), [], 0

    def read() -> None:
        nonlocal reads
        from django.db import connection

        while not stop.is_set():
            try:
                row = Secret.objects.get(token=token)
                found = sealing.unseal_value(row.ciphertext, public_id=token.public_id, digest=row.digest)
                assert found == value
                reads += 1
            except Exception as error:
                faults.append(error)
        connection.close()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):
        run("--new-key")
    stop.set()
    reader.join()

    assert not faults and reads > 0


def test_a_secret_under_a_lost_key_is_named(key_file: Path, capsys: Any) -> None:
    [(token, _)] = make_secrets(1)
    key_file.unlink()
    sealing.keys.cache_clear()

    with pytest.raises(SystemExit):
        run()

    assert token.public_id in capsys.readouterr().err


def test_keys_in_the_environment_are_not_changed_by_the_command(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keyring.KEYS_VARIABLE, keyring.new_key())

    with pytest.raises(CommandError, match="put a new one"):
        run("--new-key")
    assert not key_file.exists()


def test_the_value_of_another_row_of_the_same_token_is_not_taken(workspace: Workspace) -> None:
    """S02: two rows of one token with exchanged ciphertexts are refused too."""
    token = lifecycle.create_secret_token(workspace=workspace, by=None, now=LONG_AGO)
    rotate(token, 3_600)
    old, new = Secret.objects.filter(token=token).order_by("pk")
    Secret.objects.filter(pk=new.pk).update(ciphertext=old.ciphertext)

    with pytest.raises(sealing.UnreadableSecret):
        lifecycle.reveal_secret(token=token, by=None, now=datetime.now(UTC), address="")
