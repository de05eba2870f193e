"""The budget of the data path, counted on the wire: one round trip for a warm read, at most three cold."""

import pytest

from datasets.models import Dataset
from tests.support.counting_proxy import CountingProxy
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory, WorkspaceFactory
from tests.tokens.gate.test_signed_requests import OWN, give_signing_secret, signed
from tokens.models import Token
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def core(db: None) -> Dataset:
    return DatasetFactory(workspace=WorkspaceFactory(name="CORE"), name="PRICES", credits_per_record=1)


@pytest.fixture
def filled(api: DataPlaneClient, core: Dataset) -> Dataset:
    operator = TokenFactory(workspace=core.workspace, kind=TokenKind.SECRET)
    record = {"ticker": "AAPL", "date": "2024-01-02", "close": 1.5}
    assert api.post(f"/v1/record/CORE/PRICES?token={operator.test_value}", record).status == 200
    return core


def count(proxy: CountingProxy, api: DataPlaneClient, token: Token, path: str) -> int:
    before = proxy.round_trips
    reply = api.get(f"{path}?last=3&token={token.test_value}")
    assert reply.status == 200, reply.body
    return proxy.round_trips - before


def test_a_read_is_one_round_trip_warm_and_at_most_three_cold(
    filled: Dataset, proxy: CountingProxy, api: DataPlaneClient
) -> None:
    """The first read learns the token and the dataset; from then on a read is one statement."""
    token = TokenFactory()

    counted = [count(proxy, api, token, "/v1/data/CORE/PRICES/AAPL") for _ in range(12)]

    assert counted[0] <= 3
    assert counted[1:] == [1] * 11


def test_a_warm_read_with_many_grants_and_a_pending_change_is_one_round_trip(
    filled: Dataset, proxy: CountingProxy, api: DataPlaneClient
) -> None:
    token = TokenFactory(settings=False)
    datasets = DatasetFactory.create_batch(50, workspace=token.workspace)
    grants = dict.fromkeys(datasets, "read write")
    RevisionFactory(token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, grants=grants)
    RevisionFactory(token=token, number=2, grants=grants)
    path = f"/v1/data/{token.workspace.name}/{datasets[7].name}"

    counted = [count(proxy, api, token, path) for _ in range(3)]

    assert counted[0] <= 3
    assert counted[1:] == [1, 1]


def test_a_signed_read_is_one_round_trip(filled: Dataset, proxy: CountingProxy, api: DataPlaneClient) -> None:
    """The secrets are decrypted with the snapshot, and a signature on a read is not written down."""
    token = TokenFactory(settings={"signed_requests": True})
    give_signing_secret(token, OWN)
    url = "/v1/data/CORE/PRICES/AAPL?last=3"
    counted = []

    for _ in range(4):
        before = proxy.round_trips
        reply = api.get(url, headers=signed(token, "GET", url))
        assert reply.status == 200, reply.body
        counted.append(proxy.round_trips - before)

    assert counted[0] <= 3
    assert counted[1:] == [1, 1, 1]


def test_a_charged_read_is_one_round_trip_while_a_lease_is_held(
    filled: Dataset, proxy: CountingProxy, api: DataPlaneClient
) -> None:
    """The first one also draws the lease; the next nineteen are paid from memory."""
    token = TokenFactory(settings={"core_credit_limit": 10_000})
    count(proxy, api, TokenFactory(), "/v1/data/CORE/PRICES/AAPL")  # The dataset is known from here on.

    counted = [count(proxy, api, token, "/v1/data/CORE/PRICES/AAPL") for _ in range(20)]

    assert counted == [3] + [1] * 19


def test_a_charged_read_that_is_cold_in_every_way_is_four_round_trips(
    filled: Dataset, proxy: CountingProxy, api: DataPlaneClient
) -> None:
    """Who asks and what it has spent, the dataset, its records, and the lease that pays for them."""
    token = TokenFactory(settings={"core_credit_limit": 10_000})

    assert count(proxy, api, token, "/v1/data/CORE/PRICES/AAPL") == 4


def test_a_limit_with_little_left_is_asked_for_each_time(
    filled: Dataset, proxy: CountingProxy, api: DataPlaneClient
) -> None:
    """Below 64 credits a lease holds what the request costs and no more."""
    token = TokenFactory(settings={"core_credit_limit": 60})

    counted = [count(proxy, api, token, "/v1/data/CORE/PRICES/AAPL") for _ in range(4)]

    assert counted[1:] == [2, 2, 2]


@pytest.mark.check("S05")
def test_malformed_values_ask_nothing(proxy: CountingProxy, api: DataPlaneClient) -> None:
    """S05: a value with a wrong checksum is refused without a query."""
    token = TokenFactory()
    wrong = [
        token.test_value[:at] + ("0" if token.test_value[at] != "0" else "1") + token.test_value[at + 1 :]
        for at in range(3, 43)
    ]
    before = proxy.round_trips

    statuses = {api.get(f"/v1/data/CORE/PRICES?token={value}").status for value in wrong}

    assert statuses == {403}
    assert proxy.round_trips == before


def test_an_unknown_value_is_asked_for_once(proxy: CountingProxy, api: DataPlaneClient) -> None:
    from tokens.rules import token_format

    value = token_format.make(TokenKind.PUBLISHABLE)
    before = proxy.round_trips

    for _ in range(5):
        assert api.get(f"/v1/data/CORE/PRICES?token={value}").code == "token-invalid"

    assert proxy.round_trips == before + 1
