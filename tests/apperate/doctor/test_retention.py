"""Every kind of row has its time, and what is past it is named and purged."""

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from apperate.accounts.models import Invitation, KeptAnswer, Role, Workspace
from apperate.accounts.sign_in import leftovers
from apperate.database.clock import database_now
from apperate.doctor import retention
from datasets.jobs import queue
from tests.support.factories import LONG_AGO, RevisionFactory, TokenFactory
from tokens.models import Grant, Revision, Secret, SigningSecret, Token, TokenRefusal, UsageCounter
from tokens.services import forgetting

pytestmark = pytest.mark.django_db
# They stay as long as what they belong to, or hold nothing that grows.
LASTING = {
    "account_emailaddress", "account_emailconfirmation", "accounts_audithead", "accounts_membership",
    "accounts_user", "accounts_user_groups", "accounts_user_user_permissions", "accounts_workspace",
    "auth_group", "auth_group_permissions", "auth_permission", "datasets_stagedfile",
    "datasets_storagecounter", "datasets_storagerecount", "datasets_storagereservation",
    "django_content_type", "django_migrations", "mfa_authenticator", "procrastinate_periodic_defers",
    "procrastinate_workers", "tokens_grant", "tokens_secret", "tokens_signingsecret", "tokens_throttle",
    "tokens_webhook", "usersessions_usersession",
}  # fmt: skip


def test_every_table_is_a_kind_or_lasts() -> None:
    tables = set(connection.introspection.table_names())

    assert {kind.table for kind in retention.KINDS} | LASTING == tables
    assert not LASTING & {kind.table for kind in retention.KINDS}


def test_the_table_shows_each_kind_with_rows_size_and_age(workspace: Workspace) -> None:
    now = database_now()
    KeptAnswer.objects.create(
        workspace=workspace, route="POST /", key="k", fingerprint=b"f", kept_at=now - timedelta(days=2)
    )
    said = StringIO()

    call_command("doctor", "--retention", stdout=said)

    lines = said.getvalue().splitlines()
    assert lines[0].split() == ["KIND", "KEPT", "ROWS", "SIZE", "OLDEST", "LATE"]
    assert len(lines) == len(retention.KINDS) + 2
    line = next(line for line in lines if line.startswith("answers under an Idempotency-Key"))
    assert "24 hours" in line and f"{now - timedelta(days=2):%Y-%m-%d}" in line and line.endswith(" 1")
    as_json = StringIO()
    call_command("doctor", "--retention", "--json", stdout=as_json)
    found = {one["name"]: one for one in json.loads(as_json.getvalue())}
    assert found["answers under an Idempotency-Key"]["rows"] == 1
    assert found["answers under an Idempotency-Key"]["past"] == 1


def past_its_time(workspace: Workspace) -> None:
    """A row of each kind that this purges, older than it may be."""
    now = database_now()
    Invitation.objects.create(
        workspace=workspace, email="a@b.example", role=Role.USER, digest=b"d" * 32, created_at=LONG_AGO,
        expires_at=now - timedelta(days=31),
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO apperate_cache (cache_key, value, expires) "
            "VALUES ('k', 'v', now() - interval '1 day')"
        )
    KeptAnswer.objects.create(
        workspace=workspace, route="POST /", key="k", fingerprint=b"f", kept_at=now - timedelta(days=2)
    )
    token = TokenFactory(workspace=workspace)
    Token.objects.filter(pk=token.pk).update(deleted_at=now - timedelta(days=31))


def test_what_is_late_is_named_and_one_purge_removes_it(workspace: Workspace) -> None:
    assert retention.retention().level == "ok"
    past_its_time(workspace)

    late = retention.retention()

    assert late.level == "warn"
    for name in ("tokens (1)", "invitations (1)", "limits of signing in (1)", "Idempotency-Key (1)"):
        assert name in late.detail
    queue.purge()
    assert retention.retention().level == "ok", retention.retention()


def test_a_step_of_the_purge_that_fails_skips_none(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(now: Any) -> None:
        raise ValueError("on purpose")

    monkeypatch.setattr(queue, "PURGES", {"the first": broken, **queue.PURGES})
    monkeypatch.setattr(queue.connections, "close_all", lambda: None)  # This test is in a transaction.
    past_its_time(workspace)

    with pytest.raises(queue.NotPurged, match="^the first$"):
        queue.purge()

    assert retention.retention().level == "ok"
    assert "not purged: the first" in caplog.text


def test_an_invitation_that_counts_stays(workspace: Workspace) -> None:
    now = database_now()
    kept = Invitation.objects.create(
        workspace=workspace, email="a@b.example", digest=b"d" * 32, expires_at=now + timedelta(days=1)
    )

    assert leftovers.purge_invitations(now=now) == 0
    assert leftovers.purge_invitations(now=now + timedelta(days=30)) == 0
    assert leftovers.purge_invitations(now=now + timedelta(days=32)) == 1
    assert not Invitation.objects.filter(pk=kept.pk).exists()


def deleted(workspace: Workspace, **facts: Any) -> Token:
    token = TokenFactory(workspace=workspace, **facts)
    RevisionFactory(token=token, saved_at=LONG_AGO, effective_at=LONG_AGO)
    TokenRefusal.objects.create(
        token_id=token.pk, code="not-found", calls=1, first_at=LONG_AGO, last_at=database_now()
    )
    SigningSecret.objects.create(token=token, ciphertext=b"c", created_at=LONG_AGO)
    Token.objects.filter(pk=token.pk).update(deleted_at=database_now() - timedelta(days=29))
    return token


def test_a_deleted_token_is_forgotten_after_thirty_days_and_its_usage_is_not(workspace: Workspace) -> None:
    now = database_now()
    used, unused = deleted(workspace, nickname="Partner"), deleted(workspace)
    living = TokenFactory(workspace=workspace)
    UsageCounter.objects.create(token_id=used.pk, operation="read", outcome="ok", minute=now, calls=7)

    assert forgetting.purge(now=now) == 0
    assert Secret.objects.filter(token__in=[used, unused]).count() == 2

    assert forgetting.purge(now=now + timedelta(days=2)) == 2

    assert not Token.objects.filter(pk=unused.pk).exists()
    used.refresh_from_db()
    assert used.name == "Partner" and used.masked == "" and used.value == ""
    for model in (Secret, SigningSecret, Revision):
        assert not model.objects.filter(token__in=[used.pk, unused.pk]).exists()
    assert not Grant.objects.filter(revision__token=used).exists()
    assert not TokenRefusal.objects.filter(token_id__in=[used.pk, unused.pk]).exists()
    assert UsageCounter.objects.filter(token_id=used.pk).count() == 1
    assert Secret.objects.filter(token=living).count() == 1
    assert forgetting.purge(now=now + timedelta(days=2)) == 0


def test_a_forgotten_token_without_a_nickname_is_called_by_its_id(workspace: Workspace) -> None:
    now = database_now()
    used = deleted(workspace, nickname="")
    UsageCounter.objects.create(token_id=used.pk, operation="read", outcome="ok", minute=now, calls=7)

    forgetting.purge(now=now + timedelta(days=2))

    used.refresh_from_db()
    assert used.name == used.public_id
