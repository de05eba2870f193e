"""S43: a webhook reaches the public internet and what the operator allows, and nothing else."""

import asyncio
import hashlib
import hmac
import json
import socket
import ssl
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook as StandardWebhook
from standardwebhooks import WebhookVerificationError

from tests.support.receiver import OK, Receiver, receiving
from tokens.alerts import webhook_settings, webhooks
from tokens.rules.webhook_target import may_be_called, target_of

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
SECRET = "whsec_" + "0123456789abcdef" * 4
MESSAGE_ID = uuid.UUID(int=1)
BODY = b'{"id": "1"}'
NOT_PUBLIC = "The host is not on the public internet, and the operator has not allowed it."


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def allowed(settings: Any) -> None:
    """The operator lets webhooks call this machine."""
    settings.WEBHOOK_NETWORKS = (ip_network("127.0.0.0/8"),)


def post(url: str) -> str:
    def run() -> str:
        return asyncio.run(webhooks.post(url, BODY, message_id=MESSAGE_ID, secret=SECRET, at=NOW))

    with ThreadPoolExecutor(1) as pool:  # Playwright's event loop may run in this thread.
        return pool.submit(run).result(timeout=60)


# --- where to -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com", "ftp://example.com", "file:///etc/passwd", "gopher://example.com",
        "javascript:alert(1)", "http://", "http:///path", "http://user@example.com", "http://a:b@example.com",
        "http://example.com@127.0.0.1", "http://example.com#@127.0.0.1", "http://example.com/#part",
        "http://example.com:0", "http://example.com:65536", "http://example.com:port", "http://exa mple.com",
        "http://example.com/a b", "http://example.com/\r\nHost: other", "http://example.com/\t",
        "http://example.com\\@127.0.0.1", "http://münchen.de", "http://[::1", "http://[::1%25eth0]",
        "http://[example.com]", "http://example.com,127.0.0.1", "http://exa%6dple.com", "http://a?b=ü",
        "http://" + "a" * 254, "http://example.com/" + "a" * 1_000,
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_told_what_is_wrong(url: str) -> None:
    assert isinstance(target_of(url), str)
    assert post(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("HTTP://Example.COM:8080/a/b?c=d&e", "example.com", 8080, "/a/b?c=d&e"),
        ("http://[2606:4700::1111]/x", "2606:4700::1111", 80, "/x"),
        ("https://xn--mnchen-3ya.de:443?x", "xn--mnchen-3ya.de", 443, "/?x"),
    ],
)
def test_an_address_has_its_parts(url: str, host: str, port: int, path: str) -> None:
    target = target_of(url)

    assert not isinstance(target, str)
    assert (target.host, target.port, target.path) == (host, port, path)


@pytest.mark.check("S43")
@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1",  # noqa: S104  Compared, not bound.
        "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
        "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
        "255.255.255.255", "168.63.129.16", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
        "64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::7f00:1", "100::1", "2001::1", "2001:db8::1",
        "2002:7f00:1::", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1",
        "ff02::1",
        "no address", "",
    ],
)  # fmt: skip
def test_addresses_inside_a_network_may_not_be_called(address: str) -> None:
    """Private, loopback, link-local, metadata, multicast, documentation, and IPv4 inside IPv6."""
    assert not may_be_called(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2a00::1"])
def test_public_addresses_may_be_called(address: str) -> None:
    assert may_be_called(address)


def test_what_the_operator_allows_may_be_called_and_nothing_beside_it() -> None:
    networks = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))

    assert [may_be_called(one, networks) for one in ("10.1.2.3", "fd00::7", "10.2.0.1", "127.0.0.1")] == [
        True, True, False, False,
    ]  # fmt: skip


@pytest.mark.check("S43")
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001",
        "0", "0.0.0.0", "localhost",  # noqa: S104  Asked for, not bound.
        "LOCALHOST", "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254",
        "2852039166", "10.0.0.1", "[fe80::1]", "[ff02::1]",
    ],
)  # fmt: skip
def test_no_way_to_write_this_machine_reaches_it(receiver: Receiver, host: str) -> None:
    fault = post(receiver.url(host=host))

    assert fault in {NOT_PUBLIC, "The name of the host could not be resolved."}
    assert receiver.connections == 0


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let the name hook.test have these addresses at the first, second … look-up; the names looked up."""
    real, asked, left = socket.getaddrinfo, [], list(answers)

    def getaddrinfo(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host != "hook.test":
            return real(host, port, *rest, **options)
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.check("S43")
def test_a_name_whose_answer_changes_reaches_what_was_checked(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """DNS rebinding: the address that was checked is the one that is connected to; nobody asks again."""
    settings.WEBHOOK_NETWORKS = (ip_network("127.0.0.2/32"),)
    asked = resolve_to(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
    with receiving("127.0.0.1") as inside, receiving("127.0.0.2", port=inside.port) as checked:
        first, second = post(checked.url(host="hook.test")), post(checked.url(host="hook.test"))

    assert (first, second) == ("", NOT_PUBLIC)
    assert (len(checked.requests), inside.connections, len(asked)) == (1, 0, 2)
    assert checked.header("Host") == f"hook.test:{checked.port}"


def test_a_name_with_one_address_inside_is_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.WEBHOOK_NETWORKS = (ip_network("127.0.0.1/32"),)
    resolve_to(monkeypatch, ["127.0.0.1", "10.0.0.1"])

    assert post(receiver.url(host="hook.test")) == NOT_PUBLIC
    assert receiver.connections == 0


# --- what is sent, and what comes back ----------------------------------------------------------


def test_a_message_is_signed_with_its_time(receiver: Receiver, allowed: None) -> None:
    assert post(receiver.url("/hook?a=b")) == ""

    head, body = receiver.requests[0]
    seconds = int(NOW.timestamp())
    expected = hmac.new(SECRET.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    assert (head.split(b"\r\n")[0], body) == (b"POST /hook?a=b HTTP/1.1", BODY)
    assert receiver.header("Apperate-Signature") == f"t={seconds},v1={expected}"
    assert receiver.header("webhook-id") == str(MESSAGE_ID)
    assert receiver.header("webhook-timestamp") == str(seconds)
    assert receiver.header("Content-Type") == "application/json; charset=utf-8"


@pytest.mark.parametrize("secret", [SECRET, webhook_settings.new_secret()], ids=["older", "new"])
def test_receivers_verify_a_message_with_their_library(secret: str) -> None:
    def headers(body: bytes, at: datetime) -> dict[str, str]:
        return webhooks.signatures(body, message_id=MESSAGE_ID, secret=secret, at=at)

    now = datetime.now(UTC)
    verifier = StandardWebhook(secret)

    assert verifier.verify(BODY, headers(BODY, now)) == json.loads(BODY)
    for body, at in ((BODY + b" ", now), (BODY, now - timedelta(minutes=6))):
        with pytest.raises(WebhookVerificationError):
            verifier.verify(BODY, headers(body, at))


@pytest.mark.check("S43")
@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (OK, ""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: {here}\r\n\r\n", "It answered 302; redirects are not followed."),
        (b"HTTP/1.1 307 There\r\nLocation: {here}\r\n\r\n", "It answered 307; redirects are not followed."),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "It answered 404."),
        (b"HTTP/1.0 500 Oh\r\n\r\n", "It answered 500."),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "The answer is not HTTP, or its head is too long."),
        (b"HTTP/1.1 abc\r\n\r\n", "The answer is not HTTP, or its head is too long."),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "The answer is not HTTP, or its head is too long."),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "The answer is not HTTP, or its head is too long."),
        (b"", "The connection could not be made, or broke."),
        (b"HTTP/1.1 200 OK\r\n", "The connection could not be made, or broke."),
    ],
    ids=lambda value: repr(value[:24]),
)  # fmt: skip
def test_only_2xx_means_taken_and_nothing_is_followed(
    receiver: Receiver, allowed: None, answer: bytes, fault: str
) -> None:
    receiver.answers = [answer.replace(b"{here}", receiver.url("/other").encode())]

    assert post(receiver.url()) == fault
    assert len(receiver.requests) == 1


@pytest.mark.check("S43")
def test_an_answer_without_an_end_is_not_read(receiver: Receiver, allowed: None) -> None:
    receiver.answers = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    receiver.endless = b"10000\r\n" + b"x" * 65_536 + b"\r\n"

    assert post(receiver.url()) == ""


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 200 OK\r\nX: y"], ids=["silent", "half a head"])
def test_all_of_it_has_a_limit_of_time(
    receiver: Receiver, allowed: None, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    monkeypatch.setattr(webhooks, "SECONDS_MAX", 0.2)
    receiver.answers = [answer]
    receiver.endless = b"" if answer is None else b"z" * 10

    fault = post(receiver.url())

    # A head that goes on and on is ended by its size or by the time, whichever comes first.
    assert fault in {
        "There was no answer within 0.2 seconds.",
        "The answer is not HTTP, or its head is too long.",
    }


def test_where_nobody_listens_is_told(allowed: None) -> None:
    with receiving("127.0.0.9") as gone:
        url = gone.url(host="127.0.0.9")

    assert post(url) == "The connection could not be made, or broke."


def certificate_for(name: str, folder: Path) -> Path:
    """A certificate of its own with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return file


@pytest.mark.parametrize(
    ("name", "is_trusted", "fault"),
    [
        ("hook.test", True, ""),
        ("hook.test", False, "The connection could not be secured: look at the certificate."),
        ("other.test", True, "The connection could not be secured: look at the certificate."),
    ],
)
def test_https_is_checked_by_the_name_though_the_address_is_connected_to(
    allowed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, is_trusted: bool, fault: str
) -> None:
    file = certificate_for(name, tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    resolve_to(monkeypatch, ["127.0.0.1"])
    with receiving(tls=tls) as receiver:
        assert post(receiver.url(host="hook.test", scheme="https")) == fault
        assert len(receiver.requests) == (not fault)


def test_the_body_of_a_message_names_itself() -> None:
    body = webhooks.document("test", uuid.UUID(int=1), "ACME", NOW, {"percent": 80})

    assert json.loads(body) == {
        "id": "00000000-0000-0000-0000-000000000001",
        "type": "test",
        "createdAt": "2026-05-20T12:00:00Z",
        "workspace": "ACME",
        "percent": 80,
    }
