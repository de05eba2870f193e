"""What is counted: every answer, under labels that no caller can choose."""

import pytest

from apperate.accounts.models import Workspace
from apperate.observability import metrics
from apperate.running import sampling
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import TokenFactory
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "is_on", True)


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def requests(method: str, status: str, plane: str = "api") -> float:
    return value("apperate_requests_total", plane=plane, method=method, status=status)


def test_answers_refusals_and_records_are_counted(
    counted: None, api: DataPlaneClient, workspace: Workspace
) -> None:
    token = TokenFactory(workspace=workspace, kind=TokenKind.SECRET).test_value
    served, refused = requests("GET", "2xx"), requests("GET", "4xx")
    missing = value("apperate_refusals_total", code="token-missing")
    reads = value("apperate_request_seconds_count", kind="read")
    stored = value("apperate_records_stored_total", way="request")

    body = [{"symbol": "A", "date": "2024-01-01"}, {"symbol": "B", "date": "2024-01-01"}]
    written = api.post(f"/v1/record/ACME/PRICES?token={token}", body)
    assert written.status == 200, written.body
    assert api.get(f"/v1/data/ACME/PRICES?token={token}").status == 200
    assert api.get("/v1/data/ACME/PRICES/A").code == "token-missing"

    assert requests("GET", "2xx") == served + 1 and requests("GET", "4xx") == refused + 1
    assert value("apperate_refusals_total", code="token-missing") == missing + 1
    assert value("apperate_request_seconds_count", kind="read") == reads + 2
    assert value("apperate_records_stored_total", way="request") == stored + 2


def test_pages_health_and_static_files_are_told_apart(counted: None, api: DataPlaneClient) -> None:
    kinds = (("health", "2xx"), ("static", "4xx"), ("pages", "2xx"))
    before = [requests("GET", status, plane) for plane, status in kinds]

    assert api.get("/livez").status == 200
    assert api.get("/static/nowhere.css").status == 404
    assert api.get("/account/login/").status == 200

    assert [requests("GET", status, plane) for plane, status in kinds] == [one + 1 for one in before]


def test_a_caller_adds_no_label(counted: None, api: DataPlaneClient, workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace).test_value
    api.get(f"/v1/data/ACME/PRICES/A?token={token}")

    for number in range(20):
        api.request(f"BREW{number}", f"/v1/data/ACME/SET{number}/A?token=pk_{number}")
        api.get(f"/v1/nowhere{number}?token={token}")

    samples = [sample for metric in metrics.REGISTRY.collect() for sample in metric.samples]
    assert len(samples) > 20
    values = {text for sample in samples for text in sample.labels.values()}
    assert not [text for text in values if "BREW" in text or "SET" in text or "pk_" in text or token in text]
    assert {sample.labels["method"] for sample in samples if "method" in sample.labels} <= {
        *metrics.METHODS, "other",
    }  # fmt: skip


def test_where_nobody_asks_nothing_is_counted(api: DataPlaneClient) -> None:
    before = requests("GET", "4xx")

    api.get("/v1/data/ACME/PRICES/A")

    assert requests("GET", "4xx") == before


def test_the_state_of_a_worker_is_sampled(
    counted: None, api: DataPlaneClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = TokenFactory(workspace=workspace).test_value
    api.get(f"/v1/token?token={token}")

    api.run(sampling.sampling.sample())

    assert value("apperate_workers") == 1
    assert value("apperate_snapshots") >= 1
    assert value("apperate_database_away") == 0
    assert value("apperate_pool_connections", pool="checks") >= 1
    assert value("apperate_places_taken", kind="quick") == 0
    monkeypatch.setattr(sampling.changes, "_clock", None)
    api.run(sampling.sampling.sample())
    polled_at = value("apperate_changes_polled_timestamp_seconds")
    assert 0 < polled_at < sampling.time.time() - 80_000  # never heard: as good as a day ago
