"""IEX-HMAC-SHA256, the pure part: the vectors, a signer in another language, and what breaks a signature."""

import base64
import hashlib
import json
import random
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tokens.rules import signing
from tokens.rules.signing import Fault, Presented, Request

HERE = Path(__file__).resolve().parent
CASES = json.loads((HERE.parents[1] / "cases" / "signing.json").read_text())
NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
TOKEN = "pk_3f9c1d7e52a40b8c6d1e2f3a4b5c6d7e0badcafe"
SECRET = "sig_0123456789abcdef0123456789abcdef01234567"
SEED = 20_261_125


def request_of(case: dict[str, str]) -> Request:
    return Request(
        case["method"], case["path"].encode(), case["query"].encode(), case["host"].encode(),
        case["x_iex_date"], hashlib.sha256(case["body"].encode()).hexdigest(),
    )  # fmt: skip


def request(**changes: Any) -> Request:
    body = changes.pop("body", b'[{"a":1}]')
    plain = Request(
        "POST", b"/v1/record/ACME/PRICES%2F1", b"a=1&&b=%20", b"data.example.com:8443", signing.date_of(NOW),
        hashlib.sha256(body).hexdigest(),
    )  # fmt: skip
    return replace(plain, **changes)


def presented(made_for: Request, sent: Request | None = None, **changes: Any) -> Presented:
    """A request that was signed as `made_for` and arrives as `sent`."""
    header = signing.authorization(made_for, SECRET, TOKEN)
    return replace(Presented(sent or made_for, header, TOKEN, NOW), **changes)


@pytest.mark.parametrize("case", CASES, ids=[f"{c['method']} {c['query']}" for c in CASES])
def test_vectors(case: dict[str, str]) -> None:
    made = request_of(case)

    assert signing.canonical_request(made).decode() == case["canonical_request"]
    assert signing.string_to_sign(made) == case["string_to_sign"]
    assert signing.sign(made, case["secret"]) == case["signature"]


def test_the_canonical_string_has_each_part_on_a_line_of_its_own() -> None:
    assert signing.canonical_request(request(method="GET", body=b"")).decode().split("\n") == [
        "GET",
        "/v1/record/ACME/PRICES%2F1",
        "a=1&&b=%20",
        "host:data.example.com:8443",
        "x-iex-date:20261125T120000Z",
        "",
        "host;x-iex-date",
        signing.EMPTY_BODY_SHA256,
    ]


def any_request(chance: random.Random) -> tuple[Request, str, bytes]:
    """A request of any bytes that a target, a Host header and a body may have."""
    word = lambda letters, most: bytes(chance.choice(letters) for _ in range(chance.randrange(most)))  # noqa: E731
    visible = [code for code in range(0x21, 0x100) if code not in (0x3F, 0x7F)]
    day = NOW + timedelta(seconds=chance.randrange(-(10**9), 10**9))
    body = word(range(256), 60)
    made = Request(
        chance.choice(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]),
        b"/v1/" + word(visible, 60), word([*visible, 0x3F], 60), word(b"abcdefghij0123456789.-:", 30),
        signing.date_of(day), hashlib.sha256(body).hexdigest(),
    )  # fmt: skip
    secret = chance.choice(["sk_", "sig_", ""]) + "".join(chance.choices("0123456789abcdefäπ", k=40))
    return made, secret, body


@pytest.mark.check("S28")
def test_a_signer_in_javascript_agrees_on_10000_requests() -> None:
    """A signer written from the specification alone, in another language, makes the same signatures."""
    chance = random.Random(SEED)
    cases = [any_request(chance) for _ in range(10_000)]
    lines = [
        json.dumps(
            {
                "method": made.method, "date": made.date, "secret": secret,
                "path": base64.b64encode(made.path).decode(),
                "query": base64.b64encode(made.query).decode(),
                "host": base64.b64encode(made.host).decode(),
                "body": base64.b64encode(body).decode(),
            }
        )
        for made, secret, body in cases
    ]  # fmt: skip
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node on this machine")

    run = subprocess.run(
        [node, HERE / "signer.mjs"], input="\n".join(lines), capture_output=True, text=True, timeout=120
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [signing.sign(made, secret) for made, secret, _ in cases]


# --- what holds ---------------------------------------------------------------------------------


def test_a_signature_made_with_any_of_the_keys_holds() -> None:
    for keys in ([SECRET], ["sk_other", SECRET], [SECRET, "sk_other"]):
        assert signing.fault(presented(request()), keys) is None


@pytest.mark.parametrize(
    ("sent", "signed"),
    [
        (b"data.example.com:8443", b"data.example.com"),
        (b"127.0.0.1:8000", b"127.0.0.1"),
        (b"[::1]:8000", b"[::1]"),
        (b"data.example.com", b"data.example.com"),
        (b"[::1]", b"[::1]"),
    ],
)
def test_the_host_may_be_signed_without_its_port(sent: bytes, signed: bytes) -> None:
    assert signing.fault(presented(request(host=signed), request(host=sent)), [SECRET]) is None


@pytest.mark.parametrize(
    ("sent", "signed"),
    [
        (b"data.example.com", b"data.example.com:443"),
        (b"data.example.com:8443", b"data.example.com:443"),
        (b"data.example.com:8443", b"example.com"),
        (b"DATA.example.com", b"data.example.com"),
        (b"[::1]", b"[:"),
    ],
)
def test_any_other_host_breaks_it(sent: bytes, signed: bytes) -> None:
    found = signing.fault(presented(request(host=signed), request(host=sent)), [SECRET])

    assert found is Fault.OTHER_REQUEST


@pytest.mark.check("S25")
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, None), (299, None), (300, None), (301, Fault.TOO_OLD), (86_400, Fault.TOO_OLD),
        (-299, None), (-300, None), (-301, Fault.TOO_NEW), (-86_400, Fault.TOO_NEW),
    ],
)  # fmt: skip
def test_a_signature_holds_for_five_minutes_either_way(seconds: int, expected: Fault | None) -> None:
    """S25: 299 s pass, 301 s do not."""
    arrives = NOW + timedelta(seconds=seconds)

    assert signing.fault(presented(request(), received_at=arrives), [SECRET]) is expected


# --- what does not ------------------------------------------------------------------------------

GOOD = signing.authorization(request(), SECRET, TOKEN)
DOWNGRADES = {
    "no header": ("", Fault.MISSING),
    "another algorithm": (GOOD.replace("IEX-HMAC-SHA256", "IEX-HMAC-SHA1"), Fault.MALFORMED),
    "AWS4": (GOOD.replace("IEX-HMAC-SHA256", "AWS4-HMAC-SHA256"), Fault.MALFORMED),
    "lower case algorithm": (GOOD.replace("IEX-HMAC-SHA256", "iex-hmac-sha256"), Fault.MALFORMED),
    "none": (GOOD.replace("IEX-HMAC-SHA256", "none"), Fault.MALFORMED),
    "Bearer": (f"Bearer {TOKEN}", Fault.MALFORMED),
    "another token": (GOOD.replace(TOKEN, TOKEN[:-1] + "0"), Fault.OTHER_TOKEN),
    "no token": (GOOD.replace(TOKEN, ""), Fault.OTHER_TOKEN),
    "only host signed": (GOOD.replace("host;x-iex-date", "host"), Fault.MALFORMED),
    "only the date signed": (GOOD.replace("host;x-iex-date", "x-iex-date"), Fault.MALFORMED),
    "other order": (GOOD.replace("host;x-iex-date", "x-iex-date;host"), Fault.MALFORMED),
    "more headers": (GOOD.replace("host;x-iex-date", "host;x-iex-date;accept"), Fault.MALFORMED),
    "scope of another day": (GOOD.replace("/20261125/", "/20261124/"), Fault.OTHER_DAY),
    "scope of another service": (GOOD.replace("iex_request", "aws4_request"), Fault.MALFORMED),
    "scope with a region": (GOOD.replace("/iex_request", "/us/iex_request"), Fault.MALFORMED),
    "no signature": (GOOD.rpartition(",")[0], Fault.MALFORMED),
    "two signatures": (f"{GOOD}, Signature={'0' * 64}", Fault.MALFORMED),
    "two credentials": (GOOD.replace("Signed", f"Credential={TOKEN}, Signed", 1), Fault.MALFORMED),
    "empty signature": (GOOD.partition("Signature=")[0] + "Signature=", Fault.MALFORMED),
    "upper case signature": (GOOD.partition("Signature=")[0] + "Signature=" + "A" * 64, Fault.MALFORMED),
    "short signature": (GOOD[:-1], Fault.MALFORMED),
    "zeros": (GOOD.partition("Signature=")[0] + "Signature=" + "0" * 64, Fault.OTHER_REQUEST),
}


@pytest.mark.check("S27")
@pytest.mark.parametrize(("header", "expected"), DOWNGRADES.values(), ids=DOWNGRADES.keys())
def test_no_downgrade(header: str, expected: Fault) -> None:
    """S27: whatever is not exactly this signature, for this token, day and request, is refused."""
    assert signing.fault(Presented(request(), header, TOKEN, NOW), [SECRET]) is expected


@pytest.mark.parametrize("keys", [[], ["sk_other"], [SECRET + " "], [SECRET.upper()]])
def test_no_other_key_makes_it(keys: list[str]) -> None:
    assert signing.fault(presented(request()), keys) is Fault.OTHER_REQUEST


@pytest.mark.parametrize(
    "date",
    ["", "20261125", "2026-11-25T12:00:00Z", "20261125T120000", "20261125T120000z", "20261325T120000Z",
     "20261125T246000Z", "20261125T120000Z ", "２０２６1125T120000Z"],
)  # fmt: skip
def test_a_date_of_another_form_is_refused(date: str) -> None:
    sent = presented(request(date=date))

    assert signing.fault(sent, [SECRET]) in {Fault.DATE_MALFORMED, Fault.OTHER_DAY, Fault.MALFORMED}


@pytest.mark.check("S28")
def test_reordered_parameters_are_another_request() -> None:
    """As docs/api.md says: the query is signed as it is sent, without sorting."""
    found = signing.fault(presented(request(query=b"a=1&b=2"), request(query=b"b=2&a=1")), [SECRET])

    assert found is Fault.OTHER_REQUEST


@pytest.mark.check("S28")
def test_10000_one_byte_changes_are_all_refused() -> None:
    """S28: any one-byte change of method, path, query, host, date, body or signature is refused."""
    chance = random.Random(SEED)
    body = b'[{"ticker":"AAPL","date":"2024-01-02","close":185.64}]'
    made = request(body=body)
    good = signing.authorization(made, SECRET, TOKEN)
    assert signing.fault(Presented(made, good, TOKEN, NOW), [SECRET]) is None

    for _ in range(10_000):
        part = chance.choice(["method", "path", "query", "host", "date", "body", "authorization"])
        if part == "authorization":
            header = mutated(good.encode(), chance).decode("latin-1")
            sent = Presented(made, header, TOKEN, NOW)
        elif part == "body":
            sent = presented(made, request(body=mutated(body, chance)))
        else:
            value = getattr(made, part)
            other = mutated(value if isinstance(value, bytes) else value.encode(), chance)
            change = other if isinstance(value, bytes) else other.decode("latin-1")
            sent = presented(made, replace(made, **{part: change}))

        # White space around the parts of the header, and nothing else, is no part of the signature.
        squeezed = "".join(sent.authorization.split())
        if part == "authorization" and squeezed == "".join(good.split()):
            continue
        assert signing.fault(sent, [SECRET]) is not None, (part, sent)


def mutated(text: bytes, chance: random.Random) -> bytes:
    """The text with one byte changed, taken away or put in."""
    at = chance.randrange(len(text))
    other = bytes([chance.choice([code for code in range(256) if code != text[at]])])
    return chance.choice(
        [text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + other + text[at:]]
    )


def test_signing_secrets_have_160_random_bits() -> None:
    made = {signing.new_secret() for _ in range(1_000)}

    assert len(made) == 1_000
    assert all(len(secret) == 44 and secret.startswith("sig_") for secret in made)
