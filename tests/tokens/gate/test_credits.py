"""The Core credit usage limit is never exceeded, whoever asks at the same time; leases, and how they end."""

import asyncio
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from apperate import asgi
from apperate.database import pool
from apperate.database.clock import month_of, next_month
from apperate.kernel.refusals import Refusal
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.gate import credits, payment
from tokens.gate import leases as lease_rules
from tokens.gate.access import Allowed
from tokens.gate.calls import Bill
from tokens.gate.credits import Charged, spent
from tokens.gate.leases import Leases, leases
from tokens.models import CreditWindow, Token
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)


MONTH = month_of(NOW).date()
A_SECOND_LATER = 1.01


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been seen, and leases end when a test says so."""
    spent.clear()
    monkeypatch.setattr(lease_rules, "TICK_SECONDS", 3600)
    monkeypatch.setattr(leases._work, "every_seconds", 3600)  # It was made when the module was.


def used(token: Token) -> int:
    return CreditWindow.objects.filter(token=token).values_list("used", flat=True).first() or 0


def charge(api: DataPlaneClient, token: Token, cost: int = 1, *, limit: int = 6_400) -> Charged | Refusal:
    return api.run(credits.charge(token.pk, cost, limit=limit, now=NOW))


def pass_a_second(api: DataPlaneClient) -> None:
    api.run(leases.tidy(at=time.monotonic() + A_SECOND_LATER))


@pytest.mark.parametrize(
    ("limit", "cost", "calls", "charged"), [(100, 1, 250, 100), (100, 7, 60, 14), (1, 1, 50, 1), (0, 1, 5, 0)]
)
def test_the_limit_is_hit_exactly_by_many_at_once(
    api: DataPlaneClient, limit: int, cost: int, calls: int, charged: int
) -> None:
    token = TokenFactory()

    async def all_at_once() -> list[Charged | Refusal]:
        return await asyncio.gather(
            *(credits.charge(token.pk, cost, limit=limit, now=NOW) for _ in range(calls))
        )

    verdicts = api.run(all_at_once())

    assert sum(isinstance(verdict, Charged) for verdict in verdicts) == charged
    assert used(token) == charged * cost


def test_what_was_paid_in_advance_last_month_goes_back_there(api: DataPlaneClient) -> None:
    """The dataset had changed, and the checks were made again after the month's end."""
    token, dataset = TokenFactory(), SimpleNamespace(is_priced=True, credits_per_record=1)
    question = SimpleNamespace(asks_values=True, records_at_most=10)
    call = SimpleNamespace(
        token=SimpleNamespace(token_id=token.pk, public_id=token.public_id), allowed=Allowed(limit=6_400),
        request=SimpleNamespace(bill=Bill()), now=NOW,
    )  # fmt: skip
    assert api.run(payment.ask(call, [(dataset, question)], records_max=10)) is None

    call.now = next_month(NOW)
    assert api.run(payment.ask(call, [(dataset, question)], records_max=10)) is None
    api.run(payment.settle(call, 3))
    pass_a_second(api)

    months = dict(CreditWindow.objects.filter(token=token).values_list("month", "used"))
    assert months == {MONTH: 0, next_month(NOW).date(): 3}


def test_a_new_month_starts_anew(api: DataPlaneClient) -> None:
    token = TokenFactory()
    later = datetime(2026, 3, 1, tzinfo=UTC)

    verdicts = [api.run(credits.charge(token.pk, 10, limit=10, now=now)) for now in (NOW, NOW, later)]

    assert [type(verdict) for verdict in verdicts] == [Charged, Refusal, Charged]
    assert verdicts[1].retry_after_seconds == 2
    assert CreditWindow.objects.filter(token=token).count() == 2


def test_a_limit_lowered_below_what_is_used_refuses(api: DataPlaneClient) -> None:
    token = TokenFactory()
    api.run(credits.charge(token.pk, 10, limit=10, now=NOW))

    verdict = api.run(credits.charge(token.pk, 1, limit=5, now=NOW))

    assert isinstance(verdict, Refusal)
    assert "0 are left" in verdict.detail


@pytest.mark.parametrize(
    ("now", "first", "after"),
    [
        (
            datetime(2026, 12, 31, 23, 59, tzinfo=UTC),
            datetime(2026, 12, 1, tzinfo=UTC),
            datetime(2027, 1, 1, tzinfo=UTC),
        ),
        (
            datetime(2028, 2, 29, tzinfo=UTC),
            datetime(2028, 2, 1, tzinfo=UTC),
            datetime(2028, 3, 1, tzinfo=UTC),
        ),
    ],
)
def test_the_window_is_the_utc_month(now: datetime, first: datetime, after: datetime) -> None:
    assert (month_of(now), next_month(now)) == (first, after)


def test_a_lease_is_committed_before_it_is_spent_and_is_a_64th_of_what_is_left(api: DataPlaneClient) -> None:
    token = TokenFactory()

    first = charge(api, token, limit=640)
    row = CreditWindow.objects.get(token=token)

    assert first == Charged(1)
    assert (row.used, row.last_lease) == (10, 10)
    assert [charge(api, token, limit=640) for _ in range(9)] == [Charged(n) for n in range(2, 11)]
    assert used(token) == 10
    charge(api, token, limit=640)
    assert used(token) == 10 + (640 - 10) // 64


def test_a_lease_pays_for_no_more_than_a_second_of_use(api: DataPlaneClient) -> None:
    """Judged by what was spent since the draw before; a token that was idle gets twenty times the cost."""
    token = TokenFactory()

    charge(api, token, 2, limit=10**9)

    assert used(token) == 2 * lease_rules.AHEAD


def test_a_cost_above_the_64th_is_drawn_alone_and_what_is_held_counts_towards_it(
    api: DataPlaneClient,
) -> None:
    token = TokenFactory()
    charge(api, token, limit=640)

    assert charge(api, token, 100, limit=640) == Charged(101)
    assert used(token) == 101


def test_what_is_left_of_a_lease_goes_back_after_a_second(api: DataPlaneClient) -> None:
    token = TokenFactory()
    charge(api, token)

    api.run(leases.tidy(at=time.monotonic() + 0.5))
    early = used(token)
    pass_a_second(api)

    assert (early, used(token)) == (20, 1)
    assert leases.held(token.pk, MONTH, limit=6_400) == 0
    assert charge(api, token) == Charged(2)


def test_leases_go_back_when_the_worker_stops(api: DataPlaneClient) -> None:
    token = TokenFactory()
    charge(api, token, 3)
    assert used(token) == 60

    api.run(asgi.shutdown())
    stopped = used(token)
    api.run(asgi.startup())

    assert stopped == 3


def test_a_lease_of_a_killed_worker_stays_charged(api: DataPlaneClient) -> None:
    """Nobody knows what it had spent: the limit counts all of it."""
    token = TokenFactory()
    charge(api, token, limit=640)

    leases.forget()

    assert used(token) == 10
    assert [type(charge(api, token, 631, limit=640)), type(charge(api, token, 630, limit=640))] == [
        Refusal,
        Charged,
    ]


def test_a_lease_drawn_under_a_higher_limit_is_not_spent(api: DataPlaneClient) -> None:
    """It goes back, and the lower limit decides on what is really left."""
    token = TokenFactory()
    charge(api, token)
    assert used(token) == 20

    assert charge(api, token, limit=2) == Charged(2)
    assert used(token) == 2
    refused = charge(api, token, limit=2)
    assert isinstance(refused, Refusal) and "0 are left" in refused.detail


def test_a_lease_names_its_month(api: DataPlaneClient) -> None:
    """What is left of it at the month's end goes back to the month it was taken from."""
    token = TokenFactory()
    later = datetime(2026, 3, 1, tzinfo=UTC)
    charge(api, token)

    api.run(credits.charge(token.pk, 5, limit=6_400, now=later))
    pass_a_second(api)

    windows = CreditWindow.objects.filter(token=token).order_by("month").values_list("used", flat=True)
    assert list(windows) == [1, 5]


def test_two_workers_spend_the_limit_exactly(api: DataPlaneClient) -> None:
    """What one holds the other cannot have; when it goes back the other can."""
    token = TokenFactory()
    other = Leases()

    async def spend(mine: Leases) -> int:
        count = 0
        while await mine.take(token.pk, MONTH, 1, limit=500):
            count += 1
        return count

    async def both() -> tuple[int, int]:
        await other.ensure_started()
        await leases.take(token.pk, MONTH, 1, limit=500)
        first = 1 + await spend(other)
        await leases.tidy(at=time.monotonic() + A_SECOND_LATER)
        second = await spend(other)
        await other.stop()
        return first, second

    first, second = api.run(both())

    assert first + second == 500 and second > 0
    assert used(token) == 500


def test_a_return_whose_answer_was_lost_is_counted_once(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = TokenFactory()
    charge(api, token)
    fetch = pool.fetch_all

    async def lost(*args: object, **kwargs: object) -> object:
        await fetch(*args, **kwargs)
        raise pool.PoolTimeout("no answer")

    monkeypatch.setattr(pool, "fetch_all", lost)
    with pytest.raises(pool.PoolTimeout):
        pass_a_second(api)
    monkeypatch.setattr(pool, "fetch_all", fetch)
    pass_a_second(api)

    assert used(token) == 1


@pytest.fixture
def priced(api: DataPlaneClient) -> Token:
    """A token with a limit, and CORE/PRICES with ten records of A, at a credit each."""
    core = DatasetFactory(workspace=WorkspaceFactory(name="CORE"), name="PRICES", credits_per_record=1)
    operator = TokenFactory(workspace=core.workspace, kind=TokenKind.SECRET)
    records = [{"ticker": "A", "date": f"2024-01-{day:02}"} for day in range(1, 11)]
    assert api.post(f"/v1/record/CORE/PRICES?token={operator.test_value}", records).status == 200
    return TokenFactory(settings={"core_credit_limit": 6_400})


def test_row_header_and_gate_agree_when_nothing_is_held(api: DataPlaneClient, priced: Token) -> None:
    path = f"/v1/data/CORE/PRICES/A?token={priced.test_value}"

    paid = api.get(f"{path}&last=4")
    pass_a_second(api)
    free = api.get(f"{path}&schema=true")

    remaining = [reply.headers["apperate-credits-remaining"] for reply in (paid, free)]
    assert remaining == ["6396", "6396"]
    assert used(priced) == 4


def test_an_answer_that_fails_before_its_first_byte_is_not_charged(
    api: DataPlaneClient, priced: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object) -> None:
        raise ValueError("the answer cannot be made")

    monkeypatch.setattr("tokens.gate.endpoint.compressed", fail)
    reply = api.get(f"/v1/data/CORE/PRICES/A?token={priced.test_value}&last=10")
    pass_a_second(api)

    assert reply.status == 500
    assert used(priced) == 0


@pytest.mark.parametrize("query", ["last=1&schema=true", "last=3"])
def test_nothing_left_is_refused_before_the_query(
    api: DataPlaneClient, priced: Token, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    CreditWindow.objects.create(token=priced, month=month_of(datetime.now(UTC)).date(), used=6_400)

    async def unasked(*args: object) -> None:
        raise AssertionError("the query ran")

    monkeypatch.setattr("datasets.storage.reads.read", unasked)

    assert api.get(f"/v1/data/CORE/PRICES?token={priced.test_value}&{query}").code == "credits-exhausted"
