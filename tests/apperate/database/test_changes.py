"""Workers learn of every change: also of one whose transaction commits late, and never from an old read."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from apperate.database import pool
from apperate.database.changes import Stale, changes
from datasets.storage.catalog import catalog
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.gate import snapshots
from tokens.models import Token
from tokens.rules import token_format

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_polls_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test polls by hand, so that what it sees was that poll's doing."""
    monkeypatch.setattr(changes._work, "every_seconds", 3600)
    monkeypatch.setattr("apperate.database.changes.STALE_SECONDS_MAX", 3600)


@pytest.fixture
def token(api: DataPlaneClient) -> Token:
    dataset = DatasetFactory(workspace=WorkspaceFactory(name="CORE"), name="PRICES")
    token = TokenFactory()
    token.path = f"/v1/data/CORE/{dataset.name}?token={token.test_value}"
    return token


def other_connection() -> Any:
    """A second session, as another process would have."""
    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context"):
        parameters.pop(name, None)
    return psycopg.connect(**parameters)


def test_a_change_is_known_after_the_next_poll(api: DataPlaneClient, token: Token) -> None:
    assert api.get(token.path).status == 200
    Token.objects.filter(pk=token.pk).update(disabled_at=datetime.now(UTC))
    assert api.get(token.path).status == 200  # What is cached counts until then.

    api.run(changes.poll())

    assert api.get(token.path).code == "token-disabled"


@pytest.mark.check("S07")
def test_a_transaction_that_commits_late_is_not_missed(api: DataPlaneClient, token: Token) -> None:
    """S07: other transactions begin and end, and polls pass, before the one that disables commits."""
    assert api.get(token.path).status == 200
    with other_connection() as late:
        late.execute("UPDATE tokens_token SET disabled_at = now() WHERE id = %s", [token.pk])
        for _ in range(3):
            TokenFactory()
            api.run(changes.poll())
            assert api.get(token.path).status == 200
        late.commit()

    api.run(changes.poll())

    assert api.get(token.path).code == "token-disabled"


def test_what_was_read_before_a_change_is_not_cached_after_it(
    api: DataPlaneClient, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that began before the change and ended after the poll that told of it must not stay."""
    fetch_all = pool.fetch_all

    async def slow(statement: Any, parameters: Any, **kwargs: Any) -> Any:
        rows = await fetch_all(statement, parameters, **kwargs)
        if statement is snapshots.LOAD:
            await asyncio.to_thread(disable, token)
            await changes.poll()
        return rows

    monkeypatch.setattr(pool, "fetch_all", slow)
    assert api.get(token.path).status == 200  # It was active when it was read.
    monkeypatch.setattr(pool, "fetch_all", fetch_all)

    assert api.get(token.path).code == "token-disabled"


def disable(token: Token) -> None:
    with other_connection() as other:
        other.execute("UPDATE tokens_token SET disabled_at = now() WHERE id = %s", [token.pk])


def test_a_workspace_change_reaches_its_tokens(api: DataPlaneClient, token: Token) -> None:
    premium = DatasetFactory(workspace=WorkspaceFactory(name="PREMIUM"), name="PRICES")
    subscriber = TokenFactory(workspace__has_premium=True, settings={"premium_data_access": True})
    path = f"/v1/data/PREMIUM/{premium.name}?token={subscriber.test_value}"
    assert api.get(path).status == 200

    subscriber.workspace.has_premium = False
    subscriber.workspace.save(update_fields=["has_premium"])
    api.run(changes.poll())

    assert api.get(path).code == "dataset-not-granted"


def test_a_dataset_made_now_is_found_now_and_a_changed_one_is_read_anew(
    api: DataPlaneClient, token: Token
) -> None:
    assert api.get(token.path.replace("PRICES", "LATER")).status == 403
    dataset = DatasetFactory(workspace=WorkspaceFactory._meta.model.objects.get(name="CORE"), name="LATER")
    assert api.get(token.path.replace("PRICES", "LATER")).status == 200
    assert catalog.get(("CORE", "LATER")) is not None

    dataset.version += 1
    dataset.schema_json = {
        **dataset.schema_json,
        "properties": {"ticker": {"type": "string"}, "date": {"type": "string", "format": "date"}},
    }
    dataset.save(update_fields=["version", "schema_json"])

    # Without a poll: the read itself notices the other version and asks again.
    reply = api.get(token.path.replace("PRICES", "LATER") + "&schema=true")
    assert reply.status == 200
    assert api.get(token.path.replace("PRICES", "LATER")).status == 200
    assert catalog.get(("CORE", "LATER")).version == dataset.version


def test_a_deleted_dataset_is_refused_like_one_that_never_was(api: DataPlaneClient, token: Token) -> None:
    assert api.get(token.path).status == 200
    dataset = DatasetFactory._meta.model.objects.get(name="PRICES")
    dataset.deleted_at, dataset.version = datetime.now(UTC), dataset.version + 1
    dataset.save(update_fields=["deleted_at", "version"])

    assert api.get(token.path).code == "dataset-not-granted"  # Before any poll.


def test_the_clock_is_the_databases_and_never_ahead(api: DataPlaneClient) -> None:
    async def both() -> tuple[datetime, datetime]:
        here = changes.now()
        there = (await pool.fetch_all("SELECT clock_timestamp()", {}))[0][0]
        return here, there

    here, there = api.run(both())

    assert here <= there
    assert there - here < timedelta(seconds=1)


def test_a_worker_without_news_does_not_know_the_time(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apperate.database.changes.STALE_SECONDS_MAX", -1)

    with pytest.raises(Stale):
        changes.now()


def test_a_worker_starts_though_the_database_never_answers(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses requests and goes on asking, instead of waiting for its first answer for ever."""

    async def silent(*_: Any) -> Any:
        await asyncio.Event().wait()

    async def start() -> bool:
        await changes.stop()
        async with asyncio.timeout(30):
            await changes.ensure_started()
        return changes._work.is_running()

    monkeypatch.setattr(changes._follower, "fetch", silent)
    monkeypatch.setattr("apperate.database.changes.STALE_SECONDS_MAX", 0.1)

    assert api.run(start())
    with pytest.raises(Stale):
        changes.now()


def test_an_answer_that_was_long_on_its_way_is_as_old_as_its_question(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = changes._follower.fetch

    async def slow(*args: Any) -> Any:
        row = await fetch(*args)
        await asyncio.sleep(0.3)
        return row

    monkeypatch.setattr(changes._follower, "fetch", slow)
    monkeypatch.setattr("apperate.database.changes.STALE_SECONDS_MAX", 0.2)
    api.run(changes.poll())

    with pytest.raises(Stale):
        changes.now()


def test_the_cache_drops_the_least_recently_used(
    api: DataPlaneClient, token: Token, monkeypatch: Any
) -> None:
    monkeypatch.setattr(snapshots, "ENTRIES_MAX", 2)
    others = [TokenFactory() for _ in range(2)]
    for one in (token, *others):
        assert api.get(f"/v1/data/CORE/PRICES?token={one.test_value}").status == 200

    kept = [one for one in (token, *others) if snapshots.cache.get(token_format.digest(one.test_value))]

    assert kept == others
