"""Idempotency-Key: what is sent twice is done once, and only what succeeded is remembered."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from apperate.accounts import idempotency
from apperate.accounts.models import AuditEvent, KeptAnswer, Workspace
from apperate.database.clock import database_now
from apperate.database.pool import connection_arguments
from datasets.models import Dataset, IngestJob
from datasets.services import creating
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import TokenFactory, WorkspaceFactory
from tests.support.records_api import Caller, count, refused
from tokens.rules.token_format import TokenKind

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("ingest_dir", "empty_queue")]

RECORD = {"ticker": "AAPL", "date": "2024-01-02", "close": 1.5}
OTHER = {"ticker": "MSFT", "date": "2024-01-02", "close": 2.5}
KEY = {"Idempotency-Key": "order-17"}
CSV = b"ticker,date,close\nAAPL,2024-01-02,1.5\n"


def write(call: Caller, body: Any = RECORD, query: str = "", **headers: str) -> Reply:
    return call.api.post(call.url("record/ACME/PRICES", query), body, headers=KEY | headers)


@pytest.mark.check("S33")
def test_a_repeated_write_is_answered_as_the_first_and_not_done_again(
    call: Caller,
    prices: Dataset,
) -> None:
    first = write(call, query="duplicateKeyHandling=replace")
    before = prices.refresh_from_db() or AuditEvent.objects.count()

    second = write(call, query="duplicateKeyHandling=replace")

    assert (first.status, first.body) == (200, b'{"success": true, "message": "wrote 1 messages"}')
    assert (second.status, second.body) == (first.status, first.body)
    assert count(prices) == 1
    assert AuditEvent.objects.count() == before


def test_the_token_and_the_order_of_parameters_do_not_make_another_request(
    call: Caller,
    prices: Dataset,
) -> None:
    write(call, query="overwrite=true&duplicateKeyHandling=replace")
    token = {"X-API-Key": call.value}

    again = call.api.post(
        "/v1/record/acme/prices/?duplicateKeyHandling=replace&overwrite=true", RECORD, headers=KEY | token
    )

    assert again.status == 200


@pytest.mark.parametrize(
    ("body", "query"), [(OTHER, ""), (RECORD, "overwrite=true")], ids=["body", "parameters"]
)
def test_another_request_under_the_same_key_is_422_and_writes_nothing(
    call: Caller,
    prices: Dataset,
    body: Any,
    query: str,
) -> None:
    write(call)

    reply = write(call, body, query)

    assert refused(reply, 422, "other-body")["received"] == "order-17"
    assert count(prices) == 1


def test_a_refused_request_does_not_use_its_key_up(call: Caller, prices: Dataset) -> None:
    refused(write(call, {"ticker": "AAPL", "date": "soon"}))

    assert write(call).status == 200
    assert count(prices) == 1


def test_a_key_is_forgotten_after_24_hours(call: Caller, prices: Dataset) -> None:
    write(call)
    KeptAnswer.objects.update(kept_at=database_now() - timedelta(hours=24, seconds=1))

    reply = write(call, OTHER)

    assert reply.status == 200
    assert count(prices) == 2


def test_purge_removes_what_is_a_day_old_and_nothing_else(call: Caller, prices: Dataset) -> None:
    write(call)
    now = KeptAnswer.objects.get().kept_at

    assert idempotency.purge(now=now + timedelta(hours=23)) == 0
    assert idempotency.purge(now=now + timedelta(hours=24)) == 1


@pytest.mark.parametrize("key", ["two words", "ü", "a" * 256, "tab\there"])
def test_a_key_that_is_none_is_named(call: Caller, prices: Dataset, key: str) -> None:
    reply = call.api.post(
        call.url("record/ACME/PRICES"), RECORD, headers={"Idempotency-Key": key.encode().decode("latin-1")}
    )

    assert "Idempotency-Key" in refused(reply)["detail"]
    assert count(prices) == 0


def test_an_empty_key_is_no_key(call: Caller, prices: Dataset) -> None:
    assert write(call, **{"Idempotency-Key": " "}).status == 200
    assert not KeptAnswer.objects.exists()


# --- two at once, and a server that dies ---------------------------------------------------------


@contextmanager
def another_process_at(workspace: Workspace) -> Iterator[psycopg.Connection[Any]]:
    """A connection whose open transaction has taken the key, as a worker in the middle of the write has."""
    with closing(psycopg.connect(**connection_arguments() | {"autocommit": False})) as other:
        other.execute(
            """INSERT INTO accounts_keptanswer (workspace_id, route, key, fingerprint, answer, kept_at)
               VALUES (%s, 'POST /RECORD/ACME/PRICES', 'order-17', '', '', now())""",
            [workspace.pk],
        )
        yield other


def test_the_second_of_two_at_once_is_409_while_the_first_runs(
    call: Caller,
    prices: Dataset,
    workspace: Workspace,
) -> None:
    with another_process_at(workspace) as other:
        reply = write(call)
        other.rollback()

    assert refused(reply, 409, "still-running")["needed"] == "the end of the first request"
    assert reply.headers["retry-after"] == "1"
    assert count(prices) == 0


def test_a_key_whose_process_was_killed_is_free_again(
    call: Caller,
    prices: Dataset,
    workspace: Workspace,
) -> None:
    with another_process_at(workspace) as other:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [other.info.backend_pid])

        reply = write(call)

    assert reply.status == 200
    assert count(prices) == 1


@pytest.mark.check("S33")
def test_many_at_once_write_once(call: Caller, prices: Dataset) -> None:
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(write(call))) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {reply.status for reply in replies} <= {200, 409}
    assert len({reply.body for reply in replies if reply.status == 200}) == 1
    assert count(prices) == 1


# --- every kind of POST --------------------------------------------------------------------------


def test_a_repeated_upload_names_the_first_job(call: Caller, prices: Dataset) -> None:
    first, second = (call.api.post(call.url("data/ACME/PRICES"), CSV, headers=KEY) for _ in range(2))

    assert second.json() == first.json()
    assert IngestJob.objects.count() == 1


def test_a_repeated_upload_leaves_no_file_behind(
    call: Caller,
    prices: Dataset,
    ingest_dir: Any,
) -> None:
    for _ in range(2):
        call.api.post(call.url("data/ACME/PRICES"), CSV, headers=KEY)

    assert [place.name for place in ingest_dir.iterdir()] == [IngestJob.objects.get().public_id]


def test_a_repeated_upload_whose_job_is_gone_is_already_done(call: Caller, prices: Dataset) -> None:
    call.api.post(call.url("data/ACME/PRICES"), CSV, headers=KEY)
    IngestJob.objects.all().delete()

    refused(call.api.post(call.url("data/ACME/PRICES"), CSV, headers=KEY), 409, "already-done")


def test_a_repeated_creation_makes_one_dataset(call: Caller) -> None:
    body = {"dataset": {"datasetId": "NEW", "schema": {"properties": {"a": {"type": "string"}}}}}

    first, second = (call.api.post(call.url("datasets/ACME"), body, headers=KEY) for _ in range(2))

    assert first.json()["datasetId"] == "NEW"
    assert (second.status, second.body) == (200, first.body)


def test_a_repeated_edit_is_made_once(call: Caller, prices: Dataset) -> None:
    body = {"dataset": {"title": "Prices"}}

    replies = [call.api.post(call.url("datasets/ACME/PRICES"), body, headers=KEY) for _ in range(2)]

    assert replies[0].body == replies[1].body
    assert AuditEvent.objects.filter(action="dataset.edit").count() == 1


def test_a_repeated_account_call_is_made_once(call: Caller) -> None:
    url = call.url("account/messagebudget", "totalMessages=5")

    replies = [call.api.post(url, {"anything": 1}, headers=KEY) for _ in range(2)]

    assert [reply.json() for reply in replies] == ["SUCCESS", "SUCCESS"]
    assert AuditEvent.objects.filter(action="account.edit").count() == 1


def test_a_token_in_the_body_goes_with_a_key(call: Caller) -> None:
    body = {"token": call.value}

    reply = call.api.post("/v1/account/messagebudget?totalMessages=5", body, headers=KEY)

    assert (reply.status, reply.json()) == (200, "SUCCESS")


def test_keys_of_two_workspaces_are_two_keys(call: Caller, api: DataPlaneClient) -> None:
    other = TokenFactory(workspace=WorkspaceFactory(name="OTHER"), kind=TokenKind.SECRET)
    url = "/v1/account/messagebudget?totalMessages={}&token={}"

    replies = [
        api.post(url.format(number, value), headers=KEY)
        for number, value in ((5, call.value), (6, other.test_value))
    ]

    assert [reply.status for reply in replies] == [200, 200]


def test_an_answer_that_holds_a_secret_is_not_kept(workspace: Workspace) -> None:
    """A secret stands nowhere in clear at rest, kept answers included."""
    claim = idempotency.Claim(workspace.pk, "POST /TOKENS", "k", b"f")
    ran = []

    def work() -> dict[str, Any]:
        ran.append(1)
        return {"token": "sk_secret"}

    first, second = (idempotency.once(claim, work, now=database_now(), holds_secret=True) for _ in range(2))

    assert first == {"token": "sk_secret"}
    assert getattr(second, "code", "") == "already-done"
    assert ran == [1]
    assert KeptAnswer.objects.get().answer == ""


# --- createDatasetOnDemand -----------------------------------------------------------------------


def test_records_for_a_missing_dataset_make_it(call: Caller) -> None:
    reply = call.api.post(call.url("record/ACME/FRESH"), [RECORD, OTHER])

    assert reply.json() == {"success": True, "message": "wrote 2 messages"}
    made = Dataset.objects.get(name="FRESH")
    assert made.column_mapping == {"key": "ticker", "date": "date"}
    assert count(made) == 2


@pytest.mark.parametrize("value", ["false", "0", "False"])
def test_create_dataset_on_demand_false_makes_nothing(call: Caller, value: str) -> None:
    reply = call.api.post(call.url("record/ACME/FRESH", f"createDatasetOnDemand={value}"), RECORD)

    refused(reply, 404, "not-found")
    assert not Dataset.objects.exists()


def test_create_dataset_on_demand_has_a_value_to_understand(call: Caller) -> None:
    reply = call.api.post(call.url("record/ACME/FRESH", "createDatasetOnDemand=maybe"), RECORD)

    assert "createDatasetOnDemand" in refused(reply)["detail"]
    assert not Dataset.objects.exists()


def test_a_publishable_token_makes_no_dataset(api: DataPlaneClient, workspace: Workspace) -> None:
    """Only the secret token may create, whatever a publishable one is granted."""
    token = TokenFactory(
        workspace=workspace,
        settings={"all_datasets_write": True, "all_datasets_read": True},
    )

    reply = api.post(f"/v1/record/ACME/FRESH?token={token.test_value}", RECORD)

    refused(reply, 403, "dataset-not-granted")
    assert not Dataset.objects.exists()


@pytest.mark.parametrize(
    "body", ["[object Object]", "[]", [{"a": "x\x00"}], [{"": 1}], [1]], ids=lambda body: repr(body)[:20]
)
def test_records_that_cannot_be_stored_make_no_dataset(call: Caller, body: Any) -> None:
    refused(call.api.post(call.url("record/ACME/FRESH"), body))

    assert not Dataset.objects.exists()


def test_a_dataset_in_the_trash_is_not_made_anew(call: Caller, prices: Dataset) -> None:
    call.api.delete(call.url("datasets/ACME/PRICES"))

    reply = write(call)

    assert "can still be restored" in refused(reply)["needed"]


def in_thread_closed(create: Any, facts: dict[str, Any]) -> None:
    """Another connection's transaction, begun and ended."""
    create(**facts)
    connection.close()


def test_a_dataset_that_somebody_else_makes_meanwhile_takes_the_records(
    call: Caller,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = creating.create_dataset

    def slow(**facts: Any) -> Any:
        monkeypatch.setattr(creating, "create_dataset", create)
        somebody = threading.Thread(target=in_thread_closed, args=(create, facts))
        somebody.start()
        somebody.join()
        return create(**facts)

    monkeypatch.setattr(creating, "create_dataset", slow)

    reply = call.api.post(call.url("record/ACME/FRESH"), RECORD)

    assert reply.json() == {"success": True, "message": "wrote 1 messages"}
    assert count(Dataset.objects.get(name="FRESH")) == 1
