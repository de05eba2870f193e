"""The account calls of older clients, the log and the schemas of samples, through the whole data plane."""

from datetime import UTC, datetime, timedelta

import pytest

from apperate.accounts.audit import trail
from apperate.accounts.models import AuditEvent, Workspace
from apperate.database.clock import database_now, month_of
from datasets.models import Dataset, IngestJob
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens import selectors
from tokens.models import CreditWindow, Token, UsageCounter
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)

ACCOUNT_PATHS = ("metadata", "usage", "usage/messages", "messagebudget?totalMessages=1", "payasyougo?allow=1")


@pytest.fixture
def secret(workspace: Workspace) -> Token:
    return TokenFactory(workspace=workspace, kind=TokenKind.SECRET)


@pytest.fixture
def dataset(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


def spend(token: Token, dataset: Dataset, credits: int, at: datetime) -> None:
    UsageCounter.objects.create(
        token_id=token.pk, dataset_id=dataset.pk, operation="read", outcome="ok", minute=at, credits=credits
    )


@pytest.mark.check("S03")
@pytest.mark.parametrize("path", ACCOUNT_PATHS)
def test_account_calls_need_the_secret_token(api: DataPlaneClient, secret: Token, path: str) -> None:
    publishable = TokenFactory(workspace=secret.workspace)
    joined = "&" if "?" in path else "?"

    assert api.get(f"/v1/account/{path}").code == "token-missing"
    assert api.get(f"/v1/account/{path}{joined}token={publishable.test_value}").code == "secret-required"
    assert api.get(f"/v1/account/{path}{joined}token={secret.test_value}").status == 200


def test_account_metadata_has_the_keys_and_types_of_old(api: DataPlaneClient, secret: Token) -> None:
    document = api.get(f"/v1/account/metadata?token={secret.test_value}").json()

    effective = document.pop("effectiveDate")
    assert abs(effective - secret.workspace.created_at.timestamp() * 1000) < 1
    assert document == {
        "payAsYouGoEnabled": False,
        "overagesEnabled": False,
        "endDateEffective": None,
        "subscriptionTermType": "monthly",
        "tierName": "business",
        "messageLimit": 0,
        "creditLimit": 0,
        "messagesUsed": 0,
        "creditsUsed": 0,
        "circuitBreaker": None,
    }


def test_account_usage_counts_credits_by_day_token_and_dataset(
    api: DataPlaneClient, secret: Token, dataset: Dataset
) -> None:
    now = datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    publishable = TokenFactory(workspace=secret.workspace)
    spend(secret, dataset, 5, month)
    spend(publishable, dataset, 7, month)
    spend(publishable, dataset, 100, month - timedelta(minutes=1))  # The month before.
    spend(TokenFactory(workspace=WorkspaceFactory()), dataset, 1_000, month)  # Another's.

    document = api.get(f"/v1/account/usage/messages?token={secret.test_value}").json()

    masked = secret.secrets.get().masked
    assert document == {
        "dailyUsage": {f"{month:%Y%m%d}": 12},
        "monthlyUsage": 12,
        "monthlyPayAsYouGo": 0,
        "tokenUsage": {masked: 5, publishable.test_value: 7},
        "keyUsage": {"PRICES": 12},
    }
    whole = api.get(f"/v1/account/usage?token={secret.test_value}").json()
    assert whole == {"messages": document, "rules": [], **document}
    assert secret.test_value not in str(whole)


def test_account_usage_page_and_gate_tell_the_same_credits(
    api: DataPlaneClient, secret: Token, dataset: Dataset
) -> None:
    """A killed worker's lease stays charged and was never counted: whoever tells what is spent tells it."""
    now = database_now()
    month = month_of(now)
    core = DatasetFactory(workspace=WorkspaceFactory(name="CORE"), name="GOLD", credits_per_record=1)
    limited = TokenFactory(workspace=secret.workspace, settings={"core_credit_limit": 100})
    CreditWindow.objects.create(token=limited, month=month.date(), used=100)
    UsageCounter.objects.create(
        token_id=limited.pk, dataset_id=core.pk, operation="read", outcome="ok", minute=month,
        credits=90, core_credits=90,
    )  # fmt: skip
    spend(limited, dataset, 7, month)  # Its own dataset has a price too; no limit is about that.

    told = api.get(f"/v1/account/usage/messages?token={secret.test_value}").json()
    metadata = api.get(f"/v1/account/metadata?token={secret.test_value}").json()
    refused = api.get(f"/v1/data/CORE/GOLD?token={limited.test_value}")
    shown = selectors.of_workspace(secret.workspace, now=now).get(pk=limited.pk)

    assert told["tokenUsage"] == {limited.test_value: 107}
    assert told["monthlyUsage"] == metadata["creditsUsed"] == metadata["messagesUsed"] == 107
    assert (told["dailyUsage"], told["keyUsage"]) == ({f"{month:%Y%m%d}": 97}, {"GOLD": 90, "PRICES": 7})
    assert (refused.code, selectors.row(shown, now=now).usage.used) == ("credits-exhausted", 100)


def test_account_usage_of_other_types_is_empty_or_refused(api: DataPlaneClient, secret: Token) -> None:
    assert api.get(f"/v1/account/usage/rules?token={secret.test_value}").json() == []
    refused = api.get(f"/v1/account/usage/nothing?token={secret.test_value}")
    assert refused.code == "invalid-values" and "messages" in refused.json()["needed"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_message_budget_and_pay_as_you_go_are_kept_and_told(
    api: DataPlaneClient, secret: Token, method: str
) -> None:
    for call in ("messagebudget?totalMessages=5000", "payasyougo?allow=True"):
        reply = api.request(method, f"/v1/account/{call}&token={secret.test_value}")
        assert (reply.status, reply.json()) == (200, "SUCCESS")

    document = api.get(f"/v1/account/metadata?token={secret.test_value}").json()
    assert (document["payAsYouGoEnabled"], document["circuitBreaker"], document["messageLimit"]) == (
        True, 5000, 5000,
    )  # fmt: skip
    assert AuditEvent.objects.filter(action="account.edit", workspace=secret.workspace).count() == 2


def test_pay_as_you_go_may_be_set_where_older_clients_set_it(api: DataPlaneClient, secret: Token) -> None:
    for allow, kept in (("true", True), ("False", False)):
        reply = api.post(f"/v1/account/messagebudget?allow={allow}&token={secret.test_value}")
        document = api.get(f"/v1/account/metadata?token={secret.test_value}").json()

        assert (reply.json(), document["payAsYouGoEnabled"]) == ("SUCCESS", kept)
        assert document["circuitBreaker"] is None


@pytest.mark.parametrize(
    "call",
    ["messagebudget", "payasyougo", "messagebudget?totalMessages=-1", "messagebudget?allow=perhaps"],
)
def test_account_settings_without_a_value_are_refused_by_name(
    api: DataPlaneClient, secret: Token, call: str
) -> None:
    reply = api.post(f"/v1/account/{call}", headers={"X-API-Key": secret.test_value})

    assert reply.code == "invalid-values" and "needed" in reply.json()


def test_the_token_of_an_account_call_may_stand_in_the_body(api: DataPlaneClient, secret: Token) -> None:
    url = "/v1/account/payasyougo?allow=true"

    assert api.post(url, {"token": secret.test_value}).json() == "SUCCESS"
    for body in (b"", b"[", b'"text"', b"{}", b'{"token":5}', b"[" * 5_000):
        assert api.post(url, body).code == "token-missing"
    assert api.post(url, {"token": "sk_nothing"}).code == "token-invalid"
    assert api.post(url, {"token": secret.test_value, "more": "x" * 65_536}).code == "body-too-large"


def test_the_token_in_a_body_counts_for_account_calls_alone(
    api: DataPlaneClient, secret: Token, dataset: Dataset
) -> None:
    body = {"token": secret.test_value}

    assert api.post("/v1/record/ACME/PRICES", body).code == "token-missing"
    assert api.request("GET", "/v1/account/metadata", body=b"{}").code == "token-missing"


def test_logs_tell_changes_and_failed_jobs_of_the_period(
    api: DataPlaneClient, secret: Token, dataset: Dataset
) -> None:
    now = datetime.now(UTC)
    workspace = secret.workspace
    for hours, target in ((1, "NEW"), (30, "OLDER"), (24 * 8, "LONG_AGO")):
        trail.record(
            "dataset.create", workspace=workspace, by=None, now=now - timedelta(hours=hours), target=target
        )
    trail.record("dataset.create", workspace=WorkspaceFactory(), by=None, now=now, target="OTHERS")
    job = IngestJob.objects.create(dataset=dataset, status="ERROR", message="too many", ended_at=now)

    def told(query: str = "") -> list[str]:
        return [line["message"] for line in api.get(f"/v1/logs/ACME?token={secret.test_value}{query}").json()]

    failed = f"job {job.public_id} of PRICES failed: too many"
    assert told() == [failed, "system: dataset.create NEW"]
    assert told("&period=7d") == [*told(), "system: dataset.create OLDER"]
    line = api.get(f"/v1/logs/ACME?token={secret.test_value}").json()[0]
    assert (line["severity"], line["level"]) == ("ERROR", "error")
    assert abs(line["timestamp"] - now.timestamp() * 1000) < 2


@pytest.mark.parametrize("period", ["7", "0d", "400d", "d", "-1d"])
def test_a_bad_period_of_the_log_is_refused(api: DataPlaneClient, secret: Token, period: str) -> None:
    reply = api.get(f"/v1/logs/ACME?token={secret.test_value}&period={period}")

    assert reply.code == "invalid-values" and "period" in reply.json()["received"]


@pytest.mark.parametrize(
    "sample",
    [b"ticker,day,close\nAAPL,2024-01-01,1.5\n", b'[{"ticker":"AAPL","day":"2024-01-01","close":1.5}]'],
)
def test_generate_schema_of_a_sample(api: DataPlaneClient, secret: Token, sample: bytes) -> None:
    document = api.post(f"/v1/generate-schema/ACME?token={secret.test_value}", sample).json()

    assert document["properties"] == {
        "ticker": {"type": "string"},
        "day": {"type": "string", "format": "date"},
        "close": {"type": "number"},
    }
    assert document["columnMapping"] == {"key": "ticker", "date": "day"}
    assert document["required"] == ["ticker", "day"]


@pytest.mark.parametrize("sample", [b"", b"[object Object]", b"\x00\x01", b"[1]", b"%PDF-1.4"])
def test_generate_schema_refuses_what_is_no_sample(
    api: DataPlaneClient, secret: Token, sample: bytes
) -> None:
    reply = api.post(f"/v1/generate-schema/ACME?token={secret.test_value}", sample)

    assert (reply.status, reply.code) == (400, "invalid-values")


def test_generate_schema_of_a_dataset_is_its_schema(
    api: DataPlaneClient, secret: Token, dataset: Dataset
) -> None:
    publishable = TokenFactory(workspace=secret.workspace)

    document = api.get(f"/v1/generate-schema/ACME/PRICES?token={secret.test_value}").json()

    assert list(document["properties"]) == ["ticker", "date", "close", "volume"]
    assert document["columnMapping"] == {"key": "ticker", "date": "date"}
    refused = api.get(f"/v1/generate-schema/ACME/PRICES?token={publishable.test_value}")
    assert refused.code == "dataset-not-granted"


@pytest.mark.parametrize("path", ["logs/ACME", "logs/OTHER", "generate-schema/ACME"])
def test_the_log_and_samples_need_the_secret_token_of_the_workspace(
    api: DataPlaneClient, secret: Token, path: str
) -> None:
    others = WorkspaceFactory(name="OTHER" if "ACME" in path else "NEITHER")
    other = TokenFactory(workspace=others, kind=TokenKind.SECRET)
    publishable = TokenFactory(workspace=secret.workspace)
    method = "POST" if "generate" in path else "GET"

    for token in (other, publishable):
        reply = api.request(method, f"/v1/{path}?token={token.test_value}", body=b"a\n1\n")
        assert reply.code == "secret-required"
