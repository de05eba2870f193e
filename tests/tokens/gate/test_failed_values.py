"""S29, S31: values that are no token's are bounded per address, and nobody's token is locked out by them."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory
from tokens.gate.failed_values import ADDRESSES_MAX, FailedValues, network_of
from tokens.rules import token_format
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def bound(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three failures for an address that meets one worker, and no more as long as the clock stands."""
    settings.FAILED_TOKENS_PER_MINUTE, settings.WORKERS = 3, 1
    monkeypatch.setattr("tokens.gate.authentication.time", SimpleNamespace(monotonic=lambda: 1_000.0))


def ask(api: DataPlaneClient, value: str, *, address: str = "192.0.2.1", forwarded: str = "") -> str:
    """The code of the refusal of a value."""
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    return api.get(f"/v1/data/ACME/PRICES?token={value}", address=address, headers=headers).code


def unknown() -> str:
    return token_format.make(TokenKind.PUBLISHABLE)


@pytest.mark.check("S31")
@pytest.mark.parametrize("value", ["", "pk_typo"], ids=["unknown", "malformed"])
def test_more_failures_than_an_address_may_send_are_429(api: DataPlaneClient, value: str) -> None:
    codes = [ask(api, value or unknown()) for _ in range(3)]

    reply = api.get(f"/v1/data/ACME/PRICES?token={value or unknown()}", address="192.0.2.1")

    assert codes == ["token-invalid"] * 3
    assert (reply.status, reply.code, reply.json()["check"]) == (429, "rate-limited", "value")
    assert reply.headers["retry-after"] == "20"
    assert ask(api, unknown(), address="192.0.2.2") == "token-invalid"


@pytest.mark.check("S31")
def test_a_token_is_served_from_an_address_that_is_refused(api: DataPlaneClient) -> None:
    """Neither one that the worker knows nor one that it never saw is locked out by its neighbours."""
    known, new = TokenFactory.create_batch(2, settings={"all_datasets_read": True})
    paths = [
        f"/v1/data/{token.workspace.name}/{DatasetFactory(workspace=token.workspace).name}?token={token.test_value}"
        for token in (known, new)
    ]
    assert api.get(paths[0], address="192.0.2.1").status == 200

    assert [ask(api, unknown()) for _ in range(5)][3:] == ["rate-limited"] * 2

    assert [api.get(path, address="192.0.2.1").status for path in paths] == [200, 200]


def test_requests_without_a_token_take_nothing(api: DataPlaneClient) -> None:
    assert {ask(api, "") for _ in range(10)} == {"token-missing"}
    assert ask(api, unknown()) == "token-invalid"


@pytest.mark.check("S29")
def test_forged_addresses_are_one_bucket(api: DataPlaneClient) -> None:
    """Without a trusted proxy X-Forwarded-For is ignored, whatever it says."""
    codes = [ask(api, unknown(), forwarded=f"203.0.113.{number}") for number in range(50)]

    assert codes == ["token-invalid"] * 3 + ["rate-limited"] * 47


@pytest.mark.check("S29")
def test_behind_trusted_proxies_their_entry_counts_alone(api: DataPlaneClient, settings: Any) -> None:
    """What the client wrote before it is ignored; callers behind the same proxy are told apart."""
    settings.TRUSTED_PROXIES = 2

    forged = [ask(api, unknown(), forwarded=f"10.0.0.{number}, 203.0.113.1, 10.1.1.1") for number in range(9)]
    other = ask(api, unknown(), forwarded="203.0.113.2, 10.1.1.1")
    short = [ask(api, unknown(), forwarded=f"203.0.113.{number}") for number in range(9)]

    assert forged == ["token-invalid"] * 3 + ["rate-limited"] * 6
    assert other == "token-invalid"
    # Fewer entries than proxies: the request went around one of them, so none is believed.
    assert short == ["token-invalid"] * 3 + ["rate-limited"] * 6


def test_an_address_may_send_more_after_a_while() -> None:
    failed = FailedValues()

    waits = [failed.count("192.0.2.1", at=at) for at in (0, 0, 0, 0, 19, 20, 20, 900, 900, 900, 900)]

    assert waits == [None, None, None, 20, 1, None, 20, None, None, None, 20]


def test_workers_share_what_an_address_may_send(settings: Any) -> None:
    settings.FAILED_TOKENS_PER_MINUTE, settings.WORKERS = 120, 4
    workers = [FailedValues() for _ in range(4)]

    passed = sum(worker.count("192.0.2.1", at=0) is None for worker in workers for _ in range(100))

    assert passed == 120


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]:4711", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_failures_count_by_address_and_by_64_bits_of_ipv6(address: str, network: str) -> None:
    assert network_of(address) == network


def test_what_is_remembered_is_bounded() -> None:
    failed = FailedValues()

    for number in range(ADDRESSES_MAX + 500):
        failed.count(f"host-{number}", at=0)

    assert len(failed._buckets) == ADDRESSES_MAX
