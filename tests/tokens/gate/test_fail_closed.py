"""S17: whatever goes wrong inside a check is a refusal, never a pass."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from apperate.database import pool
from apperate.database.changes import changes
from datasets.models import Dataset
from tests.support.counting_proxy import rest
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.gate import access
from tokens.gate.credits import spent
from tokens.models import Token

pytestmark = pytest.mark.django_db(transaction=True)

RECORD = [{"ticker": "AAPL", "date": "2024-01-02"}]


@pytest.fixture(autouse=True)
def nothing_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the statements that are counted are the request's."""
    monkeypatch.setattr("apperate.database.changes.STALE_SECONDS_MAX", 3600)
    monkeypatch.setattr("apperate.database.background.Background._run", rest)


@pytest.fixture
def core(db: None) -> Dataset:
    return DatasetFactory(workspace=WorkspaceFactory(name="CORE"), name="PRICES", credits_per_record=1)


@pytest.fixture
def limited(core: Dataset) -> Token:
    """Reads CORE up to a limit. Its rate is too low for passing requests before the bucket was asked."""
    return TokenFactory(settings={"core_credit_limit": 1_000, "requests_per_second": 30})


@pytest.fixture
def writer(core: Dataset) -> Token:
    return TokenFactory(
        workspace=core.workspace, settings={"all_datasets_write": True, "requests_per_second": 30}
    )


def broken(*args: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError("a fault in a check")


def read(api: DataPlaneClient, token: Token) -> Reply:
    return api.get(f"/v1/data/CORE/PRICES?last=1&token={token.test_value}")


def write(api: DataPlaneClient, token: Token) -> Reply:
    return api.post(f"/v1/record/CORE/PRICES?token={token.test_value}", RECORD)


@pytest.mark.check("S17")
def test_a_fault_in_any_check_is_a_refusal(
    api: DataPlaneClient, limited: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(api, limited).status == 200
    faulty: list[tuple[str, Any]] = [
        ("tokens.gate.access.CHECKS", {**access.CHECKS, name: broken}) for name in access.CHECKS
    ]
    names = ("check_settings", "check_access", "check_rate", "check_balance")
    faulty += [(f"tokens.gate.access.{name}", broken) for name in names]
    faulty += [("tokens.gate.signed_requests.present", broken), ("tokens.gate.signed_requests.claim", broken)]
    for name, instead in faulty:
        with monkeypatch.context() as patch:
            patch.setattr(name, instead)
            reply = read(api, limited)

        assert (reply.status, reply.code) == (500, "internal-error"), name
        assert "fault" not in reply.body.decode(), name
    assert read(api, limited).status == 200


def failing_at_each(
    api: DataPlaneClient, send: Callable[[], Reply], monkeypatch: pytest.MonkeyPatch
) -> list[Reply]:
    """The refusals of a cold request whose first, second, … statement finds the database away."""
    fetch_all, replies = pool.fetch_all, []
    for failing in range(20):
        number = iter(range(1_000))

        async def away(*args: Any, failing: int = failing, number: Any = number, **options: Any) -> Any:
            if next(number) == failing:
                raise psycopg.OperationalError("the database is away")
            return await fetch_all(*args, **options)

        changes.forget()
        spent.clear()
        api.run(changes.poll())
        with monkeypatch.context() as patch:
            patch.setattr(pool, "fetch_all", away)
            reply = send()
        if next(number) <= failing:
            assert reply.status == 200
            return replies
        replies.append(reply)
    raise AssertionError("so many statements no request has")


@pytest.mark.check("S17")
def test_a_database_that_is_away_at_any_statement_is_a_refusal(
    api: DataPlaneClient, limited: Token, writer: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token, the dataset, the bucket, the lease, the records: none is assumed when it cannot be asked."""
    assert write(api, writer).status == 200

    reads = failing_at_each(api, lambda: read(api, limited), monkeypatch)
    writes = failing_at_each(api, lambda: write(api, writer), monkeypatch)

    assert len(reads) >= 3 and len(writes) >= 2
    for reply in (*reads, *writes):
        assert (reply.status, reply.code) == (503, "unavailable"), reply.body
        assert int(reply.headers["retry-after"]) > 0
        assert "away" not in reply.body.decode()
