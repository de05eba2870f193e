"""`manage.py tokens`: what the pages do, from the shell, with the same audit and the same effect."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from apperate.accounts.models import AuditEvent, Workspace
from apperate.database.changes import changes
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import LONG_AGO, RevisionFactory, TokenFactory
from tokens.models import Token
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments: str) -> tuple[str, str]:
    said, told = StringIO(), StringIO()
    call_command("tokens", *arguments, stdout=said, stderr=told)
    return said.getvalue(), told.getvalue()


@pytest.fixture
def token(workspace: Workspace) -> Token:
    token = TokenFactory(workspace=workspace, nickname="Partner feed")
    RevisionFactory(token=token, saved_at=LONG_AGO, effective_at=LONG_AGO, core_data_access=True)
    return token


def served(api: DataPlaneClient, value: str) -> int:
    return api.get(f"/v1/token?token={value}").status


def test_tokens_are_listed_oldest_first_without_their_values(token: Token, workspace: Workspace) -> None:
    secret = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)

    said, _ = run("list", "acme")

    head, first, second = said.splitlines()
    assert head.split() == ["ID", "NICKNAME", "KIND", "STATUS", "LAST", "USED", "VALUE"]
    assert first.startswith(token.public_id) and "Partner feed" in first and "never" in first
    assert second.startswith(secret.public_id)
    assert token.test_value not in said and secret.test_value not in said


def test_tokens_are_disabled_and_enabled(api: DataPlaneClient, token: Token, workspace: Workspace) -> None:
    other = TokenFactory(workspace=workspace)
    assert served(api, token.test_value) == 200

    said, _ = run("disable", token.public_id, other.public_id)

    assert said.splitlines()[0] == f"{token.public_id} Partner feed: disabled"
    api.run(changes.poll())
    assert served(api, token.test_value) == 403
    assert Token.objects.filter(disabled_at=None, workspace=workspace).count() == 0

    run("enable", token.public_id)

    events = AuditEvent.objects.filter(target=token.public_id).order_by("pk")
    assert list(events.values_list("action", "actor")) == [
        ("token.disabled", "operator (shell)"),
        ("token.enabled", "operator (shell)"),
    ]


def test_one_that_is_not_there_changes_none(token: Token) -> None:
    with pytest.raises(CommandError, match="There is no token tok_nowhere"):
        run("disable", token.public_id, "tok_nowhere")

    token.refresh_from_db()
    assert token.disabled_at is None


def test_a_new_value_is_printed_and_the_old_one_ends(token: Token) -> None:
    value, told = run("rotate", token.public_id)

    assert value.startswith("pk_") and value.strip() != token.test_value
    assert told == f"{token.public_id} Partner feed: the old value ends at once.\n"
    assert token.secrets.current().count() == 1
    assert "the old value ends in 24 hours" in run("rotate", token.public_id, "--overlap", "86400")[1]


def test_another_workspace_is_not_there() -> None:
    with pytest.raises(CommandError, match="There is no workspace NOWHERE"):
        run("list", "nowhere")
