"""Requests that are refused: for each code of apperate.kernel.refusals one that provokes it, and its names.

    for situation in SITUATIONS:
        sent = situation.prepare(workspace, dataset)
        with situation.meanwhile(api, sent):
            reply = sent.to(api)

TOKEN_SITUATIONS are those that the state of the token decides, or who calls: no body, nothing beside the
request. Each is prepared in a workspace of its own, which has no secret token yet.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import psycopg
from django.test import override_settings

from apperate.accounts.idempotency import HEADER
from apperate.accounts.models import Workspace
from apperate.database.clock import database_now
from apperate.database.pool import connection_arguments
from datasets.models import Dataset, IngestJob
from datasets.services.creating import system_workspace
from datasets.storage import limits
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory
from tests.tokens.gate.test_signed_requests import OWN, give_signing_secret, signed
from tokens.models import SigningSecret, Throttle, Token
from tokens.rules import token_format
from tokens.rules.token_format import TokenKind

RECORD = b'{"ticker":"AAPL","date":"2024-01-02","close":1.5}'
CSV = b"ticker,date,close\nAAPL,2024-01-02,1.5\n"
DOMAIN = "www.example.com"


@dataclass(frozen=True)
class Sent:
    """A request as it goes out. `token` is sent as X-API-Key, unless the headers carry one."""

    token: Token | None
    dataset: Dataset
    method: str = "GET"
    path: str = ""  # below /v1/; the dataset's records without one
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    address: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"/v1/{self.path or f'data/{self.dataset.workspace.name}/{self.dataset.name}'}"

    @property
    def origin(self) -> str | None:
        return self.headers.get("Origin")

    def to(self, api: DataPlaneClient) -> Reply:
        own = {"X-API-Key": self.token.test_value} if self.token else {}
        return api.request(
            self.method, self.url, body=self.body, headers=own | self.headers, address=self.address
        )


Prepare = Callable[[Workspace, Dataset], Sent]
Meanwhile = Callable[[DataPlaneClient, Sent], AbstractContextManager[Any]]


def nothing(api: DataPlaneClient, sent: Sent) -> AbstractContextManager[Any]:
    return nullcontext()


@dataclass(frozen=True)
class Situation:
    """`check` is the step that refuses; `named` stands in what the refusal says to the caller."""

    code: str
    check: str
    named: str
    prepare: Prepare
    meanwhile: Meanwhile = nothing


def publishable(workspace: Workspace, grants: Any = None, **settings: Any) -> Token:
    token: Token = TokenFactory(workspace=workspace, settings=False)
    RevisionFactory(
        token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, grants=grants or {}, **settings
    )
    return token


def reader(dataset: Dataset, **settings: Any) -> Token:
    return publishable(dataset.workspace, {dataset: "read"}, **settings)


def secret_of(workspace: Workspace) -> Token:
    """A workspace has one at most."""
    token: Token = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)
    return token


# --- what the token decides, or who calls --------------------------------------------------------


def without_token(workspace: Workspace, dataset: Dataset) -> Sent:
    return Sent(None, dataset)


def unknown_value(workspace: Workspace, dataset: Dataset) -> Sent:
    return Sent(None, dataset, headers={"X-API-Key": token_format.make(TokenKind.PUBLISHABLE)})


def deleted(workspace: Workspace, dataset: Dataset) -> Sent:
    token = reader(dataset)
    Token.objects.filter(pk=token.pk).update(deleted_at=LONG_AGO)
    return Sent(token, dataset)


def disabled(workspace: Workspace, dataset: Dataset) -> Sent:
    token = reader(dataset)
    Token.objects.filter(pk=token.pk).update(disabled_at=LONG_AGO)
    return Sent(token, dataset)


def expired(workspace: Workspace, dataset: Dataset) -> Sent:
    token = reader(dataset)
    Token.objects.filter(pk=token.pk).update(expires_at=LONG_AGO)
    return Sent(token, dataset)


def new(workspace: Workspace, dataset: Dataset) -> Sent:
    token = TokenFactory(workspace=workspace, settings=False)
    RevisionFactory(token=token, saved_at=database_now(), grants={dataset: "read"})
    return Sent(token, dataset)


def granted_by_a_pending_change(workspace: Workspace, dataset: Dataset) -> Sent:
    token = publishable(workspace)
    RevisionFactory(token=token, saved_at=database_now(), grants={dataset: "read"})
    return Sent(token, dataset)


def unsigned(workspace: Workspace, dataset: Dataset) -> Sent:
    return Sent(reader(dataset, signed_requests=True), dataset)


def signed_by_a_slow_clock(workspace: Workspace, dataset: Dataset) -> Sent:
    token = reader(dataset, signed_requests=True)
    give_signing_secret(token, OWN)
    sent = Sent(token, dataset)
    at = database_now() - timedelta(hours=1)
    return Sent(token, dataset, headers=signed(token, "GET", sent.url, at=at))


def signed_with_another_secret(workspace: Workspace, dataset: Dataset) -> Sent:
    token = reader(dataset, signed_requests=True)
    give_signing_secret(token, OWN)
    sent = Sent(token, dataset)
    return replace(sent, headers=signed(token, "GET", sent.url, key="sig_of_another"))


def signed_with_a_secret_that_no_key_opens(workspace: Workspace, dataset: Dataset) -> Sent:
    token = reader(dataset, signed_requests=True)
    SigningSecret.objects.create(token=token, ciphertext=b"sealed with a key that is lost")
    sent = Sent(token, dataset)
    return replace(sent, headers=signed(token, "GET", sent.url))


def from_another_page(workspace: Workspace, dataset: Dataset) -> Sent:
    token = reader(dataset, allowed_domains=[DOMAIN])
    return Sent(token, dataset, headers={"Origin": "https://evil.example"})


def secret_from_a_page(workspace: Workspace, dataset: Dataset) -> Sent:
    return Sent(secret_of(workspace), dataset, headers={"Origin": "https://www.example.com"})


def ungranted(workspace: Workspace, dataset: Dataset) -> Sent:
    return Sent(reader(dataset), dataset, "DELETE", f"data/{workspace.name}/{dataset.name}/AAPL")


def throttled(workspace: Workspace, dataset: Dataset) -> Sent:
    """More was asked than the bucket holds: it is empty for a thousand seconds."""
    token = reader(dataset, requests_per_second=1, burst=1)
    Throttle.objects.create(token_id=token.pk, level=-1_000, filled_at=database_now(), last_taken=0)
    return Sent(token, dataset)


def without_credits(workspace: Workspace, dataset: Dataset) -> Sent:
    core = DatasetFactory(workspace=system_workspace("CORE"), credits_per_record=1)
    return Sent(publishable(workspace, core_credit_limit=0), core)


TOKEN_SITUATIONS = (
    Situation("token-missing", "value", "X-API-Key", without_token),
    Situation("token-invalid", "value", "pk_", unknown_value),
    Situation("token-invalid", "active", "deleted", deleted),
    Situation("token-disabled", "active", "disabled since 2026-01-01", disabled),
    Situation("token-expired", "active", "expired at 2026-01-01", expired),
    Situation("not-active-yet", "active", "take effect at", new),
    Situation("not-active-yet", "active", "take effect at", granted_by_a_pending_change),
    Situation("signature-required", "signature", "IEX-HMAC-SHA256", unsigned),
    Situation("signature-invalid", "signature", "x-iex-date", signed_by_a_slow_clock),
    Situation("signature-invalid", "signature", "another secret", signed_with_another_secret),
    Situation("unavailable", "signature", "key ring", signed_with_a_secret_that_no_key_opens),
    Situation("domain-not-allowed", "domain", "https://evil.example", from_another_page),
    Situation("secret-in-browser", "domain", "Origin", secret_from_a_page),
    Situation("dataset-not-granted", "permission", "delete", ungranted),
    Situation("rate-limited", "rate", "1 requests a second", throttled),
    Situation("credits-exhausted", "credits", "limit is 0", without_credits),
)


# --- what is asked, and how ----------------------------------------------------------------------


def asking(method: str = "GET", path: str = "data/{}/{}", *, of: str = "reader", **rest: Any) -> Prepare:
    """A request by a reader, writer or the secret token; braces in the path take workspace and dataset."""

    def prepare(workspace: Workspace, dataset: Dataset) -> Sent:
        makers = {
            "reader": lambda: reader(dataset),
            "writer": lambda: publishable(workspace, {dataset: "read write"}),
            "secret": lambda: secret_of(workspace),
        }
        return Sent(makers[of](), dataset, method, path.format(workspace.name, dataset.name), **rest)

    return prepare


def writing(*, headers: dict[str, str], body: bytes = RECORD) -> Prepare:
    return asking("POST", "record/{}/{}", of="writer", headers=headers, body=body)


def with_a_full_plan(workspace: Workspace, dataset: Dataset) -> Sent:
    workspace.plan = "launch"
    workspace.save(update_fields=["plan"])
    DatasetFactory.create_batch(workspace.limits.datasets_max - 1, workspace=workspace)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    body = json.dumps({"dataset": {"datasetId": "ONE_MORE", "schema": schema}}).encode()
    return Sent(secret_of(workspace), dataset, "POST", f"datasets/{workspace.name}", body=body)


def with_full_storage(workspace: Workspace, dataset: Dataset) -> Sent:
    workspace.plan = "launch"
    workspace.save(update_fields=["plan"])
    limits.add(workspace.pk, workspace.limits.storage_bytes_max or 0)
    token = publishable(workspace, {dataset: "write"})
    return Sent(token, dataset, "POST", f"record/{workspace.name}/{dataset.name}", body=RECORD)


def signed_write(workspace: Workspace, dataset: Dataset) -> Sent:
    token = publishable(workspace, {dataset: "write"}, signed_requests=True)
    give_signing_secret(token, OWN)
    sent = Sent(token, dataset, "POST", f"record/{workspace.name}/{dataset.name}", body=RECORD)
    return replace(sent, headers=signed(token, "POST", sent.url, body=RECORD))


@contextmanager
def sent_before(api: DataPlaneClient, sent: Sent) -> Iterator[None]:
    assert sent.to(api).status == 200
    yield


@contextmanager
def other_sent_before(api: DataPlaneClient, sent: Sent) -> Iterator[None]:
    assert replace(sent, body=RECORD.replace(b"AAPL", b"MSFT")).to(api).status == 200
    yield


@contextmanager
def sent_and_forgotten(api: DataPlaneClient, sent: Sent) -> Iterator[None]:
    assert sent.to(api).status == 200
    IngestJob.objects.filter(dataset=sent.dataset).delete()
    yield


@contextmanager
def sent_and_not_ended(api: DataPlaneClient, sent: Sent) -> Iterator[None]:
    """Another worker's open transaction has taken the key."""
    with closing(psycopg.connect(**connection_arguments() | {"autocommit": False})) as other:
        other.execute(
            """INSERT INTO accounts_keptanswer (workspace_id, route, key, fingerprint, answer, kept_at)
               VALUES (%s, %s, %s, '', '', now())""",
            [sent.dataset.workspace_id, f"POST {sent.url.removeprefix('/v1').upper()}", sent.headers[HEADER]],
        )
        yield


def serving_https(api: DataPlaneClient, sent: Sent) -> AbstractContextManager[Any]:
    return override_settings(SERVES_HTTPS=True)


def raising(state: str) -> Meanwhile:
    """PostgreSQL itself raises the state, in place of the read."""

    def meanwhile(api: DataPlaneClient, sent: Sent) -> AbstractContextManager[Any]:
        statement = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"
        return patch("datasets.storage.reads.read_statement", lambda *_: (statement, None))

    return meanwhile


KEY = {HEADER: "order-17"}
UPLOAD = asking("POST", of="writer", headers=KEY, body=CSV)
REQUEST_SITUATIONS = (
    Situation("https-required", "value", "https", asking(address="10.0.0.2"), serving_https),
    Situation("secret-required", "permission", "secret token", asking("PATCH", "datasets/{}/{}")),
    Situation("not-found", "permission", "NONE", asking("GET", "data/{}/NONE", of="secret")),
    Situation("not-found", "", "nothing/here", asking("GET", "nothing/here")),
    Situation("invalid-values", "query", "limit=none", asking("GET", "data/{}/{}?limit=none")),
    Situation("method-not-allowed", "", "DELETE, GET, HEAD, POST", asking("PATCH")),
    Situation("plan-required", "body", "20 datasets", with_a_full_plan),
    Situation("storage-limit", "body", "10,000,000,000 bytes in use", with_full_storage),
    Situation("signature-reused", "signature", "used before", signed_write, sent_before),
    Situation("still-running", "body", "order-17", writing(headers=KEY), sent_and_not_ended),
    Situation("already-done", "body", "read it instead", UPLOAD, sent_and_forgotten),
    Situation("other-body", "body", "order-17", writing(headers=KEY), other_sent_before),
    Situation("length-required", "body", "Content-Length", writing(headers={}, body=b"")),
    Situation("body-too-large", "body", "10,000,001", writing(headers={"Content-Length": "10000001"})),
    Situation("url-too-long", "", "16,384", asking("GET", "data/{}/{}/" + "K" * 16_384)),
    Situation("headers-too-large", "", "32,768", asking(headers={"X-Long": "v" * 32_768})),
    Situation("unsupported-encoding", "", "br", writing(headers={"Content-Encoding": "br"})),
    Situation("query-too-slow", "query", "narrower", asking(), raising("57014")),
    Situation("storage-full", "", "makes room", asking(), raising("53100")),
    Situation("unavailable", "", "does not answer", asking(), raising("57P01")),
    Situation("internal-error", "", "request id", asking(), raising("22012")),
)
SITUATIONS = TOKEN_SITUATIONS + REQUEST_SITUATIONS
