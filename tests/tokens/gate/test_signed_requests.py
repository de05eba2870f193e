"""Signed requests through HTTP: what passes, what is refused in which words, and that a write works once."""

import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from django.db import connection

from apperate.database import sealing
from apperate.database.changes import changes
from apperate.database.clock import database_now
from datasets.models import Dataset, IngestJob
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory
from tokens.gate import signed_requests
from tokens.gate.snapshots import cache
from tokens.models import Secret, SigningSecret, Token, UsedSignature
from tokens.rules import signing
from tokens.rules.token_format import TokenKind
from tokens.services import lifecycle

pytestmark = pytest.mark.django_db(transaction=True)

RECORD = {"ticker": "AAPL", "date": "2024-01-02", "close": 185.64, "volume": 82488700}
OWN = "sig_0123456789abcdef0123456789abcdef01234567"
CSV = b"ticker,date,close,volume\nAAPL,2024-01-02,185.64,82488700\n"


@pytest.fixture
def prices(workspace: Any) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def secret(workspace: Any) -> Token:
    """The workspace's secret token, with its value encrypted as the product does it."""
    return lifecycle.create_secret_token(workspace=workspace, by=None, now=LONG_AGO)


@pytest.fixture
def token(prices: Dataset, secret: Token) -> Token:
    """Reads, writes and deletes PRICES, and takes signed requests only."""
    token = TokenFactory(workspace=prices.workspace, settings=False)
    RevisionFactory(
        token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, signed_requests=True,
        grants={prices: "read write delete"},
    )  # fmt: skip
    give_signing_secret(token, OWN)
    return token


def give_signing_secret(token: Token, secret: str) -> None:
    sealed = sealing.seal_signing_secret(secret, public_id=token.public_id)
    SigningSecret.objects.create(token=token, ciphertext=sealed)


def value_of(secret: Token) -> str:
    stored = Secret.objects.current().get(token=secret)
    return sealing.unseal_value(stored.ciphertext, public_id=secret.public_id, digest=stored.digest)


def signed(
    token: Token, method: str, url: str, *, body: bytes = b"", key: str = OWN, host: str = "testserver",
    at: datetime | None = None,
) -> dict[str, str]:  # fmt: skip
    """The headers of a signed request; the token travels beside the signature."""
    path, _, query = url.partition("?")
    request = signing.Request(
        method, path.encode(), query.encode(), host.encode(), signing.date_of(at or datetime.now(UTC)),
        hashlib.sha256(body).hexdigest(),
    )  # fmt: skip
    value = token.test_value
    return {
        "Host": host,
        "X-Iex-Date": request.date,
        "X-API-Key": value,
        "Authorization": signing.authorization(request, key, value),
    }


def send(
    api: DataPlaneClient, token: Token, method: str, url: str, *, body: bytes = b"", **how: Any
) -> Reply:
    return api.request(method, url, body=body, headers=signed(token, method, url, body=body, **how))


READ = "/v1/data/ACME/PRICES?last=5"
WRITE = "/v1/record/ACME/PRICES"
BODY = b'[{"ticker":"AAPL","date":"2024-01-02","close":185.64,"volume":82488700}]'


def test_a_signed_read_passes(api: DataPlaneClient, token: Token) -> None:
    assert send(api, token, "GET", READ).json() == []


def test_a_signature_of_the_workspaces_secret_token_passes(
    api: DataPlaneClient, token: Token, secret: Token
) -> None:
    assert send(api, token, "GET", READ, key=value_of(secret)).status == 200


def test_it_does_not_pass_while_the_secret_token_is_disabled(
    api: DataPlaneClient, token: Token, secret: Token
) -> None:
    key = value_of(secret)
    assert send(api, token, "GET", READ, key=key).status == 200

    lifecycle.disable(token=secret, by=None, now=database_now())
    api.run(changes.poll())
    assert send(api, token, "GET", READ, key=key).code == "signature-invalid"
    assert send(api, token, "GET", READ).status == 200

    lifecycle.enable(token=secret, by=None, now=database_now())
    api.run(changes.poll())
    assert send(api, token, "GET", READ, key=key).status == 200


def test_the_secret_token_of_another_workspace_signs_nothing(api: DataPlaneClient, token: Token) -> None:
    from tests.support.factories import WorkspaceFactory

    other = lifecycle.create_secret_token(workspace=WorkspaceFactory(), by=None, now=LONG_AGO)

    assert send(api, token, "GET", READ, key=value_of(other)).code == "signature-invalid"


@pytest.mark.parametrize("host", ["testserver", "testserver:8000"])
def test_the_host_may_be_signed_without_its_port(api: DataPlaneClient, token: Token, host: str) -> None:
    headers = signed(token, "GET", READ, host="testserver") | {"Host": host}

    assert api.get(READ, headers=headers).status == 200


@pytest.mark.check("S20")
def test_the_target_is_signed_as_it_was_sent(api: DataPlaneClient, token: Token) -> None:
    """Escapes, empty parameters and their order are part of what is signed; a prefix is what was sent."""
    for url in (
        "/v1/data/acme/prices/A%2FB%20c/?last=1&&x=%41&from=",
        "/stable/data/acme/%50RICES?limit=1",
        "/v1/data/ACME/PRICES",
    ):
        assert send(api, token, "GET", url).status == 200, url

    sent = signed(token, "GET", "/v1/data/ACME/PRICES?last=1&limit=2")
    assert api.get("/v1/data/ACME/PRICES?limit=2&last=1", headers=sent).code == "signature-invalid"
    assert api.get("/v1/data/ACME/%50RICES?last=1&limit=2", headers=sent).code == "signature-invalid"


def test_a_signature_says_its_method(api: DataPlaneClient, token: Token) -> None:
    headers = signed(token, "GET", READ)

    assert api.request("HEAD", READ, headers=headers).status == 403
    assert api.request("HEAD", READ, headers=signed(token, "HEAD", READ)).status == 200


def test_a_token_that_needs_no_signature_ignores_one(api: DataPlaneClient, prices: Dataset) -> None:
    token = TokenFactory(workspace=prices.workspace, settings=False)
    RevisionFactory(token=token, saved_at=LONG_AGO, effective_at=LONG_AGO, grants={prices: "read"})
    headers = signed(token, "GET", READ, key="sig_wrong")

    assert api.get(READ, headers=headers).status == 200


# --- refusals -----------------------------------------------------------------------------------


def test_an_unsigned_request_is_told_what_is_needed(api: DataPlaneClient, token: Token) -> None:
    for headers in (
        {"X-API-Key": token.test_value},
        {"Authorization": f"Bearer {token.test_value}"},
        {"Authorization": f"Bearer {token.test_value}", "X-Iex-Date": "20261125T120000Z"},
    ):
        reply = api.get(READ, headers=headers)

        assert (reply.status, reply.code, reply.json()["check"]) == (401, "signature-required", "signature")
        assert "IEX-HMAC-SHA256" in reply.json()["needed"]
        assert "IEX-HMAC-SHA256" in reply.headers["www-authenticate"]


@pytest.mark.check("S27")
def test_another_algorithm_is_refused(api: DataPlaneClient, token: Token) -> None:
    headers = signed(token, "GET", READ)
    for name in ("AWS4-HMAC-SHA256", "HMAC", "IEX-HMAC-SHA1"):
        sent = headers | {"Authorization": headers["Authorization"].replace("IEX-HMAC-SHA256", name)}
        assert api.get(READ, headers=sent).code == "token-invalid"


def test_the_token_must_travel_beside_the_signature(api: DataPlaneClient, token: Token) -> None:
    headers = signed(token, "GET", READ)
    del headers["X-API-Key"]

    assert api.get(READ, headers=headers).code == "token-missing"


@pytest.mark.check("S27")
def test_the_credential_names_the_token_that_was_sent(api: DataPlaneClient, token: Token) -> None:
    other = TokenFactory(workspace=token.workspace)
    headers = signed(token, "GET", READ)
    headers["Authorization"] = headers["Authorization"].replace(token.test_value, other.test_value)

    reply = api.get(READ, headers=headers)

    assert reply.code == "signature-invalid"
    assert other.test_value not in reply.body.decode()


@pytest.mark.parametrize("seconds", [-290, 290])
def test_a_date_within_five_minutes_passes(api: DataPlaneClient, token: Token, seconds: int) -> None:
    at = database_now() + timedelta(seconds=seconds)

    assert send(api, token, "GET", READ, at=at).status == 200


@pytest.mark.check("S26")
@pytest.mark.parametrize("seconds", [-301, 302])
def test_a_date_further_off_is_told_the_servers_time(
    api: DataPlaneClient, token: Token, seconds: int
) -> None:
    """S26: the refusal says the server's time, in its words and in the Date header, and the limit."""
    now = database_now()

    reply = send(api, token, "GET", READ, at=now + timedelta(seconds=seconds))

    assert (reply.status, reply.code) == (403, "signature-invalid")
    assert "5 minutes" in reply.json()["detail"]
    told = datetime.strptime(reply.json()["needed"].split()[-1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((told - now).total_seconds()) < 30
    assert abs((parsedate_to_datetime(reply.headers["date"]) - now).total_seconds()) < 30


def test_no_refusal_gives_a_secret_away(api: DataPlaneClient, token: Token, secret: Token) -> None:
    reply = send(api, token, "GET", READ, key="sig_wrong")

    assert reply.code == "signature-invalid"
    for word in (OWN, value_of(secret), token.test_value):
        assert word not in reply.body.decode()


def test_active_comes_before_signature_and_signature_before_permission(
    api: DataPlaneClient, token: Token
) -> None:
    headers = {"X-API-Key": token.test_value}
    assert api.get("/v1/data/ACME/OTHER", headers=headers).code == "signature-required"

    lifecycle.disable(token=token, by=None, now=database_now())
    api.run(changes.poll())

    assert api.get(READ, headers=headers).code == "token-disabled"
    assert send(api, token, "GET", READ).code == "token-disabled"


def test_a_pending_version_asks_for_a_signature_already(api: DataPlaneClient, prices: Dataset) -> None:
    """What narrows does not wait; what widens does: both versions must say yes."""
    token = TokenFactory(workspace=prices.workspace, settings=False)
    RevisionFactory(token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, grants={prices: "read"})
    RevisionFactory(token=token, number=2, signed_requests=True, grants={prices: "read"})
    give_signing_secret(token, OWN)

    assert api.get(READ, headers={"X-API-Key": token.test_value}).code == "signature-required"
    assert send(api, token, "GET", READ).status == 200


def test_a_pending_version_without_signatures_does_not_free_the_request_early(
    api: DataPlaneClient, token: Token, prices: Dataset
) -> None:
    RevisionFactory(token=token, number=2, grants={prices: "read"})

    assert api.get(READ, headers={"X-API-Key": token.test_value}).code == "not-active-yet"
    assert send(api, token, "GET", READ).status == 200


# --- bodies and writes --------------------------------------------------------------------------


def test_a_signed_write_is_stored(api: DataPlaneClient, token: Token) -> None:
    reply = send(api, token, "POST", WRITE, body=BODY)

    assert reply.json() == {"success": True, "message": "wrote 1 messages"}
    assert send(api, token, "GET", READ).json() == [RECORD]


def test_another_body_is_refused_and_not_stored(api: DataPlaneClient, token: Token) -> None:
    headers = signed(token, "POST", WRITE, body=BODY)

    reply = api.post(WRITE, BODY.replace(b"185", b"186"), headers=headers)

    assert reply.code == "signature-invalid"
    assert send(api, token, "GET", READ).json() == []


@pytest.mark.check("S25")
def test_a_signature_on_a_write_works_once(api: DataPlaneClient, token: Token) -> None:
    """S25: the same signed write twice is one record set and a 409."""
    headers = signed(token, "POST", WRITE, body=BODY)

    first = api.post(WRITE, BODY, headers=headers)
    again = api.post(WRITE, BODY, headers=headers)

    assert (first.status, again.status, again.code) == (200, 409, "signature-reused")
    assert send(api, token, "GET", READ).json() == [RECORD]
    assert UsedSignature.objects.count() == 1


def test_the_same_signature_in_another_spelling_is_the_same(api: DataPlaneClient, token: Token) -> None:
    """The header may be written in several ways; what counts is the signature in it."""
    headers = signed(token, "POST", WRITE, body=BODY)
    scheme, _, rest = headers["Authorization"].partition(" ")
    other = f"{scheme} " + ",".join(reversed(rest.split(", ")))

    assert api.post(WRITE, BODY, headers=headers).status == 200
    assert api.post(WRITE, BODY, headers=headers | {"Authorization": other}).code == "signature-reused"


def test_a_read_may_be_sent_again(api: DataPlaneClient, token: Token) -> None:
    headers = signed(token, "GET", READ)

    assert [api.get(READ, headers=headers).status for _ in range(2)] == [200, 200]
    assert not UsedSignature.objects.exists()


def test_a_write_that_is_refused_keeps_its_signature(
    api: DataPlaneClient, token: Token, prices: Dataset
) -> None:
    url = "/v1/record/ACME/OTHER"
    headers = signed(token, "POST", url, body=BODY)

    assert [api.post(url, BODY, headers=headers).code for _ in range(2)] == ["dataset-not-granted"] * 2


def test_a_signed_delete_works_once(api: DataPlaneClient, token: Token) -> None:
    send(api, token, "POST", WRITE, body=BODY)
    url = "/v1/data/ACME/PRICES/AAPL"
    headers = signed(token, "DELETE", url)

    assert api.delete(url, headers=headers).json()["message"] == "deleted 1 records"
    assert api.delete(url, headers=headers).code == "signature-reused"


def test_a_signed_upload_becomes_a_job(api: DataPlaneClient, token: Token) -> None:
    """The body is checked before the view and read by it afterwards, larger than what memory holds."""
    body = CSV + b"".join(b"T%d,2024-01-02,1.5,1\n" % number for number in range(60_000))
    assert len(body) > 1_000_000
    url = "/v1/data/ACME/PRICES"

    reply = send(api, token, "POST", url, body=body)

    assert reply.status == 200, reply.body
    assert IngestJob.objects.get(public_id=reply.json()["jobId"]).size_bytes == len(body)
    assert (
        api.post(url, body + b"X", headers=signed(token, "POST", url, body=body)).code == "signature-invalid"
    )


def test_a_body_that_is_too_large_is_not_kept(api: DataPlaneClient, token: Token, settings: Any) -> None:
    settings.UPLOAD_BYTES_MAX = 1_000
    url = "/v1/data/ACME/PRICES"

    assert send(api, token, "POST", url, body=b"x" * 1_001).code == "body-too-large"


def test_a_wrong_date_is_refused_before_the_body_is_read(api: DataPlaneClient, token: Token) -> None:
    headers = signed(token, "POST", WRITE, body=BODY, at=database_now() - timedelta(hours=1))

    reply = api.request("POST", WRITE, headers=[*headers.items(), ("Content-Length", str(10**12))])

    assert reply.code == "signature-invalid"


def test_used_signatures_are_forgotten_when_their_date_is_past(api: DataPlaneClient, token: Token) -> None:
    send(api, token, "POST", WRITE, body=BODY)
    now = database_now()

    assert signed_requests.purge(now=now + timedelta(minutes=10)) == 0
    assert signed_requests.purge(now=now + timedelta(minutes=12)) == 1


# --- secrets at rest ----------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 3, 10, -1])
def test_a_damaged_secret_refuses_and_is_logged(
    api: DataPlaneClient, token: Token, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    """S02: a secret that cannot be decrypted makes every signature a refusal that says why, never a pass."""
    stored = SigningSecret.objects.get(token=token)
    damaged = bytearray(stored.ciphertext)
    damaged[at] ^= 1
    SigningSecret.objects.update(ciphertext=bytes(damaged))

    reply = send(api, token, "GET", READ)

    assert (reply.status, reply.json()["check"]) == (503, "signature")
    assert "cannot be read" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.check("S02")
def test_two_tokens_secrets_cannot_be_exchanged(api: DataPlaneClient, token: Token, prices: Dataset) -> None:
    other = TokenFactory(workspace=prices.workspace)
    give_signing_secret(other, "sig_" + "9" * 40)
    theirs = SigningSecret.objects.get(token=other).ciphertext
    SigningSecret.objects.filter(token=token).update(ciphertext=theirs)

    assert send(api, token, "GET", READ, key="sig_" + "9" * 40).status == 503


def test_a_token_without_a_signing_secret_takes_no_signature(api: DataPlaneClient, token: Token) -> None:
    SigningSecret.objects.all().delete()
    assert send(api, token, "GET", READ).code == "signature-invalid"
    assert send(api, token, "GET", READ, key="").code == "signature-invalid"


def test_switching_signatures_on_makes_a_secret_once(api: DataPlaneClient, prices: Dataset) -> None:
    from dataclasses import replace as changed

    now = database_now()
    token = lifecycle.create_publishable_token(workspace=prices.workspace, by=None, now=now)
    assert isinstance(token, Token)
    assert not SigningSecret.objects.exists()

    settings, _ = lifecycle.saved(token, now=now)
    lifecycle.save_settings(
        token=token, changes=changed(settings, signed_requests=True), by=None, now=now, based_on=None
    )
    made = SigningSecret.objects.get(token=token)
    first = lifecycle.reveal_signing_secret(token=token, by=None, now=now, address="")
    again = lifecycle.reveal_signing_secret(token=token, by=None, now=now, address="")

    assert first == again and first.startswith("sig_") and len(first) == 44
    assert SigningSecret.objects.get(token=token).ciphertext == made.ciphertext
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM accounts_auditevent WHERE action = 'token.signing_secret_revealed'"
        )
        assert cursor.fetchone() == (2,)


@pytest.mark.check("S01")
def test_a_signing_secret_stands_nowhere_in_clear(token: Token) -> None:
    """S01: what is stored is encrypted, and bound to the row of its token."""
    stored = bytes(SigningSecret.objects.get(token=token).ciphertext)

    assert OWN.encode() not in stored
    assert sealing.unseal_signing_secret(stored, public_id=token.public_id) == OWN
    with pytest.raises(sealing.UnreadableSecret):
        sealing.unseal_signing_secret(stored, public_id="tok_00000000")


def test_the_cache_forgets_a_token_when_its_workspaces_secret_token_goes(
    api: DataPlaneClient, token: Token, secret: Token
) -> None:
    send(api, token, "GET", READ)

    cache.evict_tokens([secret.pk])

    assert cache.get(bytes(Secret.objects.get(token=token).digest)) is None
    assert token.kind == TokenKind.PUBLISHABLE
