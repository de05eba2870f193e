"""S23: what a page on another site may read follows from the same domain rules that let it call."""

from itertools import product
from typing import Any

import pytest

from datasets.models import Dataset
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import DatasetFactory, TokenFactory

pytestmark = pytest.mark.django_db(transaction=True)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
APP, OTHER = "https://app.example.com", "https://evil.example"
READABLE = {
    "X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy", "iexcloud-credits-used",
    "iexcloud-premium-credits-used", "iexcloud-messages-used", "iexcloud-premium-messages-used",
    "Apperate-Credits-Remaining", "Apperate-Next-Cursor", "Apperate-Unconfirmed-Workers", "ETag", "Link",
}  # fmt: skip


@pytest.fixture
def prices(workspace: Any) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


def token_of(prices: Dataset, *rules: str, **settings: Any) -> str:
    granted = {"all_datasets_read": True, "all_datasets_write": True, "all_datasets_delete": True}
    made = TokenFactory(
        workspace=prices.workspace, settings=granted | {"allowed_domains": list(rules)} | settings
    )
    value: str = made.test_value
    return value


def ask(api: DataPlaneClient, token: str, headers: dict[str, str], path: str = "data/ACME/PRICES") -> Reply:
    return api.get(f"/v1/{path}?token={token}", headers=headers)


SHARED: list[tuple[list[str], dict[str, str], str]] = [
    ([], {"Origin": OTHER}, "*"),
    ([], {"Origin": "null"}, "*"),
    ([], {}, "*"),
    (["*.example.com"], {"Origin": APP}, APP),
    (["*.example.com"], {"Origin": APP, "Referer": f"{APP}/page?x=1"}, APP),
    (["app.example.com/page"], {"Origin": APP, "Referer": f"{APP}/page"}, APP),
    (["http://localhost:3000"], {"Origin": "http://localhost:3000"}, "http://localhost:3000"),
    (["*.example.com"], {"Referer": f"{APP}/page"}, APP),
    (["*.example.com"], {"Referer": "app.example.com/page"}, "*"),
]


@pytest.mark.check("S23")
def test_an_answer_is_shared_with_the_origin_that_was_let_in(api: DataPlaneClient, prices: Dataset) -> None:
    for rules, headers, allowed_origin in SHARED:
        reply = ask(api, token_of(prices, *rules), headers)

        assert reply.status == 200, headers
        assert reply.headers["access-control-allow-origin"] == allowed_origin, headers
        assert ("Origin" in reply.headers["vary"].split(", ")) == bool(rules), headers
        assert "access-control-allow-credentials" not in reply.headers


REFUSED: list[dict[str, str]] = [
    {"Origin": OTHER},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": f"{APP}, {OTHER}"},
    {"Origin": f"{APP}.evil.example"},
    {"Origin": "null", "Referer": f"{APP}/page"},
    {"Origin": OTHER, "Referer": f"{APP}/page"},
    {"Origin": APP, "Referer": f"{OTHER}/page"},
    {"Origin": "https://other.example.com"},
    {},
]


@pytest.mark.check("S23")
def test_a_refusal_can_be_read_by_every_page_and_names_no_allowed_site(
    api: DataPlaneClient, prices: Dataset
) -> None:
    """The developer on the wrong site reads why; the list itself is told to nobody."""
    token = token_of(prices, "app.example.com", "https://staging.customer.test")
    for headers in REFUSED:
        reply = ask(api, token, headers)

        assert (reply.status, reply.code) == (401, "domain-not-allowed"), headers
        assert reply.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in reply.headers
        told = f"{reply.headers} {reply.body.decode()}"
        assert "customer.test" not in told
        assert "app.example.com" not in told.replace(str(reply.json()["received"]), "")


@pytest.mark.check("S23")
def test_every_answer_of_a_limited_token_is_shared_with_its_page_alone(
    api: DataPlaneClient, prices: Dataset
) -> None:
    """Reads, writes, deletes, catalogues and unchanged answers: each way to a 2xx says the same."""
    token, headers = token_of(prices, "app.example.com"), {"Origin": APP}
    etag = ask(api, token, headers).headers["etag"]
    record = [{"ticker": "AAPL", "date": "2024-01-02"}]
    key = "data/ACME/PRICES/AAPL"
    replies = {
        "unchanged": ask(api, token, headers | {"If-None-Match": etag}),
        "written": api.post(f"/v1/record/ACME/PRICES?token={token}", record, headers=headers),
        "head": api.request("HEAD", f"/v1/{key}?token={token}", headers=headers),
        "csv": api.get(f"/v1/{key}?format=csv&token={token}", headers=headers),
        "export": api.get(f"/v1/data/ACME/PRICES?export=true&token={token}", headers=headers),
        "batch": ask(api, token, headers, "data/ACME/PRICES/AAPL,MSFT"),
        "catalogue": ask(api, token, headers, "datasets/ACME"),
        "dataset": ask(api, token, headers, "datasets/ACME/PRICES"),
        "document": ask(api, token, headers, "openapi-doc/ACME/PRICES"),
        "jobs": ask(api, token, headers, "jobs/ACME/ingest"),
        "deleted": api.delete(f"/v1/{key}?token={token}", headers=headers),
    }

    for name, reply in replies.items():
        assert reply.status == (304 if name == "unchanged" else 200), (name, reply.body)
        assert reply.headers["access-control-allow-origin"] == APP, name
        assert "Origin" in reply.headers["vary"].split(", "), name
        exposed = reply.headers["access-control-expose-headers"].split(", ")
        assert set(exposed) == READABLE, name


def test_rules_that_only_report_share_with_every_page(api: DataPlaneClient, prices: Dataset) -> None:
    """The page was let in; no rule names it, so none is told."""
    reply = ask(api, token_of(prices, "app.example.com", domains_report_only=True), {"Origin": OTHER})

    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "*"


@pytest.mark.check("S18", "S23")
def test_a_preflight_is_the_same_for_every_method_page_token_and_path(
    api: DataPlaneClient, prices: Dataset
) -> None:
    """No token is looked at and nothing of one is told; the request that follows is checked."""
    limited = token_of(prices, "app.example.com")
    targets = (f"data/ACME/PRICES?token={limited}", "data/ACME/NONE?token=nonsense", "no/such/route")
    answers = set()
    for origin, method, target in product((APP, OTHER, "null"), METHODS, targets):
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "content-type,x-iex-date",
        }
        reply = api.request("OPTIONS", f"/v1/{target}", headers=asked)
        assert (reply.status, reply.body) == (200, b"{}")
        assert method in reply.headers["access-control-allow-methods"].split(", ")
        reply.headers.pop("x-request-id")
        answers.add(tuple(sorted(reply.headers.items())))

    (answer,) = map(dict, answers)
    assert answer["access-control-allow-origin"] == "*"
    assert answer["access-control-allow-headers"] == "content-type,x-iex-date"
    assert answer["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in answer


@pytest.mark.check("S17", "S55")
def test_a_fault_is_shared_like_a_refusal(
    api: DataPlaneClient, prices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a 5xx can be read: the page shows its request id instead of "network error"."""
    monkeypatch.setattr("tokens.gate.access.check_settings", lambda *args, **kwargs: 1 / 0)

    reply = ask(api, token_of(prices, "app.example.com"), {"Origin": APP})

    assert reply.status >= 500
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["x-request-id"]
