"""Who may do what through HTTP: every refusal code reachable so far, and the successes beside them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datasets.models import Dataset
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory, WorkspaceFactory
from tokens.models import CreditWindow, Token
from tokens.rules import token_format
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)

RECORD = {"ticker": "AAPL", "date": "2024-01-02", "close": 185.64, "volume": 82488700}


@pytest.fixture
def prices(workspace: Any) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def core_prices(db: None) -> Dataset:
    return DatasetFactory(
        workspace=WorkspaceFactory(name="CORE"), name="HISTORICAL_PRICES", credits_per_record=1
    )


@pytest.fixture
def token(prices: Dataset) -> Token:
    """May read PRICES, and CORE by default."""
    token = TokenFactory(workspace=prices.workspace, settings=False)
    RevisionFactory(token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, grants={prices: "read"})
    return token


@pytest.fixture
def secret(prices: Dataset) -> Token:
    return TokenFactory(workspace=prices.workspace, kind=TokenKind.SECRET)


def fill(api: DataPlaneClient, secret: Token, dataset: Dataset, *records: Any) -> None:
    url = f"/v1/record/{dataset.workspace.name}/{dataset.name}?token={secret.test_value}"
    reply = api.post(url, list(records) or [RECORD])
    assert reply.status == 200, reply.body


def read(api: DataPlaneClient, token: Token, path: str = "ACME/PRICES", **kwargs: Any) -> Reply:
    return api.get(f"/v1/data/{path}?last=5&token={token.test_value}", **kwargs)


def test_granted_dataset_is_read(api: DataPlaneClient, token: Token, secret: Token, prices: Dataset) -> None:
    fill(api, secret, prices)

    reply = read(api, token)

    assert reply.status == 200
    assert reply.json() == [RECORD]
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["iexcloud-credits-used"] == "0"
    assert reply.headers["cache-control"] == "private, no-cache"


@pytest.mark.check("S11")
@pytest.mark.parametrize("place", ["query", "bearer", "x-api-key", "query and bearer"])
def test_the_value_is_taken_from(api: DataPlaneClient, token: Token, place: str) -> None:
    value = token.test_value
    url = "/v1/data/acme/prices/" + (f"?token={value}" if "query" in place else "")
    headers = {"Authorization": f"Bearer {value}"} if "bearer" in place else {}
    if place == "x-api-key":
        headers["X-API-Key"] = value

    assert api.get(url, headers=headers).status == 200


@pytest.mark.check("S11")
@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("", {}, 401, "token-missing"),
        ("token=", {}, 401, "token-missing"),
        ("token=undefined", {}, 401, "token-missing"),
        ("token=pk_123", {}, 403, "token-invalid"),
        ("token=VALUE0", {}, 403, "token-invalid"),
        ("token=UNKNOWN", {}, 403, "token-invalid"),
        ("token=VALUE&token=VALUE", {}, 400, "invalid-values"),
        ("token=VALUE", {"Authorization": "Bearer OTHER"}, 400, "invalid-values"),
        ("", {"Authorization": "Basic dXNlcjpwYXNz"}, 403, "token-invalid"),
        ("token=%00", {}, 403, "token-invalid"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_value_is_refused(
    api: DataPlaneClient, token: Token, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    known = token.test_value
    unknown = token_format.make(TokenKind.PUBLISHABLE)
    query = query.replace("UNKNOWN", unknown).replace("VALUE", known)
    headers = {name: value.replace("OTHER", unknown) for name, value in headers.items()}

    reply = api.get(f"/v1/data/ACME/PRICES?{query}", headers=headers)

    assert (reply.status, reply.code) == (status, code)
    assert known not in reply.body.decode()
    assert ("www-authenticate" in reply.headers) == (status == 401)


@pytest.mark.check("S55")
def test_every_refusal_explains_itself(api: DataPlaneClient, token: Token) -> None:
    problem = read(api, token, "ACME/NOSUCH").json()

    assert problem["title"] and problem["detail"] and problem["needed"]
    assert problem["code"] == "dataset-not-granted"
    assert problem["check"] == "permission"
    assert problem["token"] == token.public_id
    assert problem["request_id"]


@pytest.mark.check("S16")
def test_ungranted_and_missing_datasets_are_refused_in_the_same_words(
    api: DataPlaneClient, token: Token
) -> None:
    """Nobody learns from a refusal whether a dataset exists."""
    DatasetFactory(workspace=token.workspace, name="THERE")
    outside = DatasetFactory(name="THERE")

    replies = [
        read(api, token, path)
        for path in (
            "ACME/THERE",
            "ACME/GONE_",
            f"{outside.workspace.name}/THERE",
            "NOBODY/THERE",
            "PREMIUM/THERE",
        )
    ]

    assert {reply.status for reply in replies} == {403}
    bodies = set()
    for reply, named in zip(
        replies,
        ("ACME/THERE", "ACME/GONE_", f"{outside.workspace.name}/THERE", "NOBODY/THERE", "PREMIUM/THERE"),
        strict=True,
    ):
        problem = reply.json()
        problem.pop("request_id")
        bodies.add(str(problem).replace(named, "NAME"))
    assert len(bodies) == 1


@pytest.mark.check("S18")
@pytest.mark.parametrize("action", ["read", "write", "delete"])
@pytest.mark.parametrize("granted", ["read", "write", "delete", "read write delete", ""])
def test_each_permission_allows_its_own_action_alone(
    api: DataPlaneClient, prices: Dataset, action: str, granted: str
) -> None:
    token = TokenFactory(workspace=prices.workspace, settings=False)
    grants = {prices: granted} if granted else {}
    RevisionFactory(token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, grants=grants)
    value = f"?token={token.test_value}"

    reply = {
        "read": lambda: api.get(f"/v1/data/ACME/PRICES{value}"),
        "write": lambda: api.post(f"/v1/record/ACME/PRICES{value}", [RECORD]),
        "delete": lambda: api.delete(f"/v1/data/ACME/PRICES/AAPL{value}"),
    }[action]()

    assert (reply.status == 200) == (action in granted.split()), reply.body
    assert reply.code == ("" if action in granted.split() else "dataset-not-granted")


def test_all_datasets_means_future_ones_too(api: DataPlaneClient, token: Token) -> None:
    wide = TokenFactory(workspace=token.workspace, settings={"all_datasets_read": True})
    assert read(api, wide, "ACME/LATER").status == 403

    DatasetFactory(workspace=token.workspace, name="LATER")

    assert read(api, wide, "ACME/LATER").status == 200
    assert read(api, token, "ACME/LATER").status == 403


@pytest.mark.parametrize(
    ("settings", "subscribed", "dataset", "allowed"),
    [
        ({}, False, "CORE", True),
        ({"core_data_access": False}, False, "CORE", False),
        ({"premium_data_access": True}, True, "PREMIUM", True),
        ({"premium_data_access": True}, False, "PREMIUM", False),
        ({"premium_data_access": False}, True, "PREMIUM", False),
    ],
)
def test_core_and_premium_data_access(
    api: DataPlaneClient, db: None, settings: dict[str, bool], subscribed: bool, dataset: str, allowed: bool
) -> None:
    DatasetFactory(workspace=WorkspaceFactory(name=dataset), name="SHARED")
    token = TokenFactory(workspace__has_premium=subscribed, settings=settings)

    reply = read(api, token, f"{dataset}/SHARED")

    assert (reply.status == 200) is allowed
    assert api.post(f"/v1/record/{dataset}/SHARED?token={token.test_value}", [RECORD]).status == 403


def test_secret_token_may_all_in_its_workspace_and_nothing_elsewhere(
    api: DataPlaneClient, secret: Token, prices: Dataset
) -> None:
    fill(api, secret, prices)
    other = DatasetFactory(name="PRICES")

    assert read(api, secret).status == 200
    assert read(api, secret, "ACME/NOSUCH").code == "not-found"
    assert read(api, secret, f"{other.workspace.name}/PRICES").code == "dataset-not-granted"
    assert (
        api.delete(f"/v1/data/ACME/PRICES/AAPL?token={secret.test_value}").json()["message"]
        == "deleted 1 records"
    )


@pytest.mark.check("S10")
@pytest.mark.parametrize("header", ["Origin", "Sec-Fetch-Site"])
def test_secret_token_from_a_browser_is_refused(api: DataPlaneClient, secret: Token, header: str) -> None:
    assert read(api, secret, headers={header: "https://example.com"}).code == "secret-in-browser"

    secret.workspace.allows_secret_in_browser = True
    secret.workspace.save(update_fields=["allows_secret_in_browser"])
    api.run(_next_poll())

    assert read(api, secret, headers={header: "https://example.com"}).status == 200


@pytest.mark.parametrize(
    ("column", "code"),
    [("disabled_at", "token-disabled"), ("expires_at", "token-expired"), ("deleted_at", "token-invalid")],
)
def test_inactive_token_is_refused(api: DataPlaneClient, token: Token, column: str, code: str) -> None:
    assert read(api, token).status == 200

    Token.objects.filter(pk=token.pk).update(**{column: datetime.now(UTC)})
    api.run(_next_poll())

    reply = read(api, token)
    assert reply.status == 403
    assert reply.code == code


@pytest.mark.check("S19")
def test_new_token_is_not_active_yet_and_says_when(api: DataPlaneClient, prices: Dataset) -> None:
    token = TokenFactory(workspace=prices.workspace, settings=False)
    now = datetime.now(UTC)
    RevisionFactory(
        token=token,
        number=1,
        saved_at=now,
        effective_at=now + timedelta(seconds=100),
        grants={prices: "read"},
    )

    reply = read(api, token)

    assert (reply.status, reply.code) == (403, "not-active-yet")
    assert 90 <= int(reply.headers["retry-after"]) <= 101


def pending(token: Token, *, seconds: float = 100, grants: Any = None, **settings: Any) -> None:
    now = datetime.now(UTC)
    RevisionFactory(
        token=token,
        saved_at=now,
        effective_at=now + timedelta(seconds=seconds),
        grants=grants or {},
        **settings,
    )
    token.save(update_fields=["nickname"])


def test_what_a_pending_change_grants_waits(api: DataPlaneClient, token: Token, prices: Dataset) -> None:
    other = DatasetFactory(workspace=prices.workspace, name="OTHER")
    assert read(api, token, "ACME/OTHER").code == "dataset-not-granted"
    pending(token, grants={prices: "read", other: "read"})
    api.run(_next_poll())

    reply = read(api, token, "ACME/OTHER")

    assert (reply.status, reply.code) == (403, "not-active-yet")
    assert 90 <= int(reply.headers["retry-after"]) <= 101
    assert read(api, token).status == 200


def test_what_a_pending_change_takes_away_stops_at_once(
    api: DataPlaneClient, token: Token, prices: Dataset
) -> None:
    assert read(api, token).status == 200

    pending(token, grants={})
    api.run(_next_poll())

    assert read(api, token).code == "dataset-not-granted"


def test_a_change_takes_effect_by_itself(api: DataPlaneClient, token: Token, prices: Dataset) -> None:
    other = DatasetFactory(workspace=prices.workspace, name="OTHER")
    pending(token, seconds=0.2, grants={other: "read"})

    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while (reply := read(api, token, "ACME/OTHER")).status != 200:
        assert reply.code == "not-active-yet"
        assert datetime.now(UTC) < deadline

    assert read(api, token).code == "dataset-not-granted"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Referer": "https://www.example.com/app"}, True),
        ({"Origin": "https://www.example.com"}, True),
        ({"Referer": "https://evil.com/www.example.com"}, False),
        ({"Origin": "https://www.example.com.evil.com"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_allowed_domains(
    api: DataPlaneClient, prices: Dataset, headers: dict[str, str], allowed: bool
) -> None:
    token = TokenFactory(
        workspace=prices.workspace,
        settings={"all_datasets_read": True, "allowed_domains": ["www.example.com"]},
    )

    reply = read(api, token, headers=headers)

    assert reply.code == ("" if allowed else "domain-not-allowed")
    assert "www.example.com" not in reply.headers.get("access-control-allow-origin", "") or allowed
    if allowed and "Origin" in headers:
        assert reply.headers["access-control-allow-origin"] == headers["Origin"]
        assert "Origin" in reply.headers["vary"]
    if not allowed:
        assert reply.status == 401
        assert reply.headers["access-control-allow-origin"] == "*"


def test_both_domain_lists_must_match_while_one_is_pending(api: DataPlaneClient, prices: Dataset) -> None:
    token = TokenFactory(
        workspace=prices.workspace, settings={"all_datasets_read": True, "allowed_domains": ["*.example.com"]}
    )
    pending(token, all_datasets_read=True, allowed_domains=["www.example.com", "other.test"])

    assert read(api, token, headers={"Referer": "https://www.example.com/"}).status == 200
    assert read(api, token, headers={"Referer": "https://app.example.com/"}).code == "domain-not-allowed"
    assert read(api, token, headers={"Referer": "https://other.test/"}).code == "not-active-yet"


def limited(prices: Dataset, limit: int) -> Token:
    return TokenFactory(workspace=prices.workspace, settings={"core_credit_limit": limit})


def test_credit_limit_is_exact_and_refuses_whole_answers(
    api: DataPlaneClient, prices: Dataset, core_prices: Dataset
) -> None:
    operator = TokenFactory(workspace=core_prices.workspace, kind=TokenKind.SECRET)
    fill(api, operator, core_prices, *({**RECORD, "date": f"2024-01-{day:02}"} for day in range(2, 12)))
    token = limited(prices, 10)
    path = f"/v1/data/CORE/HISTORICAL_PRICES?token={token.test_value}"

    first = api.get(f"{path}&last=6")
    too_much = api.get(f"{path}&last=6")
    rest = api.get(f"{path}&last=4")
    nothing_left = api.get(f"{path}&last=1")

    assert [first.status, too_much.status, rest.status, nothing_left.status] == [200, 402, 200, 402]
    assert too_much.code == nothing_left.code == "credits-exhausted"
    assert first.headers["iexcloud-credits-used"] == "6"
    assert first.headers["apperate-credits-remaining"] == "4"
    assert rest.headers["apperate-credits-remaining"] == "0"
    assert "4 are left" in too_much.json()["detail"]
    assert CreditWindow.objects.get(token=token).used == 10
    assert read(api, token, "CORE/HISTORICAL_PRICES/NOBODY").status == 402


def test_credits_of_other_datasets_are_metered_not_limited(
    api: DataPlaneClient, prices: Dataset, secret: Token
) -> None:
    fill(api, secret, prices)
    token = TokenFactory(
        workspace=prices.workspace, settings={"core_credit_limit": 0, "all_datasets_read": True}
    )

    assert read(api, token).status == 200


def test_a_lower_pending_limit_holds_at_once(
    api: DataPlaneClient, prices: Dataset, core_prices: Dataset
) -> None:
    operator = TokenFactory(workspace=core_prices.workspace, kind=TokenKind.SECRET)
    fill(api, operator, core_prices)
    token = limited(prices, 10)
    assert read(api, token, "CORE/HISTORICAL_PRICES").status == 200

    pending(token, core_credit_limit=1)
    api.run(_next_poll())

    assert read(api, token, "CORE/HISTORICAL_PRICES").code == "credits-exhausted"


@pytest.mark.check("S18")
@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "BREW"])
def test_wrong_method_names_the_right_ones(api: DataPlaneClient, token: Token, method: str) -> None:
    reply = api.request(method, f"/v1/data/ACME/PRICES?token={token.test_value}")

    assert (reply.status, reply.code) == (405, "method-not-allowed")
    assert reply.headers["allow"] == "DELETE, GET, HEAD, POST"


def test_unknown_route_is_not_found(api: DataPlaneClient, db: None) -> None:
    reply = api.get("/v1/nothing/here")

    assert (reply.status, reply.code) == (404, "not-found")
    assert reply.headers["content-type"].startswith("application/problem+json")


def test_preflight_tells_nothing_about_a_token(api: DataPlaneClient, token: Token) -> None:
    replies = [
        api.request(
            "OPTIONS",
            f"/v1/data/ACME/PRICES?token={value}",
            headers={"Access-Control-Request-Headers": "content-type"},
        )
        for value in (token.test_value, "nonsense")
    ]

    for reply in replies:
        reply.headers.pop("x-request-id")
    assert replies[0].headers == replies[1].headers
    assert [reply.status for reply in replies] == [200, 200]
    assert replies[0].body == b"{}"
    assert replies[0].headers["access-control-allow-headers"] == "content-type"
    assert replies[0].headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in replies[0].headers


@pytest.mark.check("S12")
def test_a_session_never_authorises_the_api(api: DataPlaneClient, token: Token, as_owner: Any) -> None:
    cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in as_owner.cookies.items())

    assert api.get("/v1/data/ACME/PRICES", headers={"Cookie": cookie}).code == "token-missing"


def test_a_failing_check_refuses(api: DataPlaneClient, token: Token, monkeypatch: Any) -> None:
    """A check that raises is a refusal, never a pass."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("a fault in a check")

    monkeypatch.setattr("tokens.gate.access.first_no", broken)

    reply = read(api, token)

    assert (reply.status, reply.code) == (500, "internal-error")
    assert "fault" not in reply.body.decode()


@pytest.mark.check("S17")
def test_a_worker_that_hears_nothing_from_the_database_refuses(
    api: DataPlaneClient, token: Token, monkeypatch: Any
) -> None:
    assert read(api, token).status == 200

    monkeypatch.setattr("apperate.database.changes.STALE_SECONDS_MAX", -1.0)

    reply = read(api, token)
    assert (reply.status, reply.code) == (503, "unavailable")
    assert reply.headers["retry-after"]


async def _next_poll() -> None:
    from apperate.database.changes import changes

    await changes.poll()
