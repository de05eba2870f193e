"""Usage is counted once: by token, dataset, operation and outcome; spending without a limit too."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.metering import meter as usage
from tokens.metering.meter import meter
from tokens.models import CreditWindow, UsageCounter, UsageFlush
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 5, 17, 12, 30, 59, tzinfo=UTC)


def test_calls_records_and_credits_are_counted(api: DataPlaneClient) -> None:
    core = DatasetFactory(workspace=WorkspaceFactory(name="CORE"), name="PRICES", credits_per_record=3)
    operator = TokenFactory(workspace=core.workspace, kind=TokenKind.SECRET)
    records = [{"ticker": "A", "date": f"2024-01-0{day}"} for day in (1, 2)]
    api.post(f"/v1/record/CORE/PRICES?token={operator.test_value}", records)
    token = TokenFactory()

    for path in ("PRICES?last=2", "PRICES?last=1", "NOSUCH?last=1", "PRICES?limit=abc"):
        api.get(f"/v1/data/CORE/{path}&token={token.test_value}")
    api.run(meter.flush())

    counters = UsageCounter.objects.filter(token_id=token.pk)
    by_outcome = {counter.outcome: counter for counter in counters}
    assert set(by_outcome) == {"ok", "dataset-not-granted", "invalid-values"}
    read = by_outcome["ok"]
    assert (read.calls, read.records, read.credits, read.core_credits) == (2, 3, 9, 9)
    assert (read.dataset_id, read.operation, read.minute.second) == (core.pk, "read", 0)
    # What a token without a limit spends joins the window, so that a limit set later knows it.
    assert CreditWindow.objects.get(token=token).used == 9
    assert not CreditWindow.objects.filter(token=operator).exists()


def test_a_flush_whose_answer_was_lost_is_counted_once(api: DataPlaneClient) -> None:
    token = TokenFactory()

    async def flush_twice() -> None:
        meter.meter(token.pk, operation="read", outcome="ok", now=NOW, records=1, core_credits=5)
        meter._unsent = (uuid.uuid4(), meter._totals)
        meter._totals = {}
        batch = meter._unsent
        await meter.flush()
        meter._unsent = batch  # As if nothing had been heard of the first.
        await meter.flush()

    api.run(flush_twice())

    assert UsageCounter.objects.get(token_id=token.pk).calls == 1
    assert CreditWindow.objects.get(token=token).used == 5
    assert UsageFlush.objects.count() == 1


def test_ids_of_flushes_are_kept_for_a_day(db: None) -> None:
    """Every worker adds one a second; without an end the table would only grow."""
    for hours in (1, 23, 25, 48):
        UsageFlush.objects.create(id=uuid.uuid4(), flushed_at=NOW - timedelta(hours=hours))

    assert (usage.purge(now=NOW), UsageFlush.objects.count()) == (2, 2)


def test_counts_of_a_minute_add_up(api: DataPlaneClient) -> None:
    token = TokenFactory()

    async def flush_in_parts() -> None:
        for _ in range(3):
            meter.meter(token.pk, operation="read", outcome="ok", now=NOW, records=2)
            await meter.flush()

    api.run(flush_in_parts())

    counter = UsageCounter.objects.get(token_id=token.pk)
    assert (counter.calls, counter.records) == (3, 6)
