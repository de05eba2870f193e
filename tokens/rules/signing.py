"""IEX-HMAC-SHA256: signs a request, and checks whether a signature belongs to one. Pure: no Django here.

The signature covers the request as sent: the raw target with its escapes and the order of its
parameters, the Host header, the date and the bytes of the body. Source: docs/api.md, Signed requests.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

ALGORITHM = "IEX-HMAC-SHA256"
SCOPE = "iex_request"
SIGNED_HEADERS = "host;x-iex-date"
WINDOW = timedelta(minutes=5)
EMPTY_BODY_SHA256 = hashlib.sha256().hexdigest()

_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PARTS = ("Credential", "SignedHeaders", "Signature")


@dataclass(frozen=True, slots=True)
class Request:
    """The signed parts of a request, as sent. `body_sha256` is in hex, `date` the x-iex-date header."""

    method: str
    path: bytes
    query: bytes
    host: bytes
    date: str
    body_sha256: str = EMPTY_BODY_SHA256


@dataclass(frozen=True, slots=True)
class Presented:
    """A signature as received: the request, its Authorization header, the token beside it, and when.

    `received_at` is when the headers arrived: a large body may take longer than a signature is valid.
    """

    request: Request
    authorization: str
    token_value: str
    received_at: datetime
    # Results by keys, because a request on many datasets is checked many times.
    found: dict[tuple[str, ...], "Fault | None"] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """A well-formed Authorization header."""

    credential: str
    scope_day: str
    signature: str


class Fault(StrEnum):
    """Why a signature is not valid."""

    MISSING = "missing"
    MALFORMED = "malformed"
    DATE_MALFORMED = "date_malformed"
    OTHER_DAY = "other_day"
    OTHER_TOKEN = "other_token"  # noqa: S105  The name of a fault, not a password.
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    OTHER_REQUEST = "other_request"


def new_secret() -> str:
    """Return a new signing secret: `sig_` and 40 hex characters, 160 random bits."""
    return "sig_" + secrets.token_hex(20)


def canonical_request(request: Request) -> bytes:
    """Return the text whose digest is signed."""
    return b"\n".join(
        [
            request.method.encode("latin-1", "replace"),
            request.path,
            request.query,
            b"host:" + request.host,
            b"x-iex-date:" + request.date.encode("latin-1", "replace"),
            b"",
            SIGNED_HEADERS.encode(),
            request.body_sha256.encode(),
        ]
    )


def string_to_sign(request: Request) -> str:
    """Return the text that the last key signs."""
    digest = hashlib.sha256(canonical_request(request)).hexdigest()
    return f"{ALGORITHM}\n{request.date}\n{request.date[:8]}/{SCOPE}\n{digest}"


def sign(request: Request, secret: str) -> str:
    """Return the signature in hex. Each key is the hex text of the previous digest, not its bytes."""
    key = _hmac(secret, request.date[:8])
    key = _hmac(key, SCOPE)
    return _hmac(key, string_to_sign(request))


def authorization(request: Request, secret: str, token_value: str) -> str:
    """Return the Authorization header that signs a request."""
    credential = f"{token_value}/{request.date[:8]}/{SCOPE}"
    signature = sign(request, secret)
    return f"{ALGORITHM} Credential={credential}, SignedHeaders={SIGNED_HEADERS}, Signature={signature}"


def date_of(moment: datetime) -> str:
    """Return the x-iex-date header of a moment."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def parse_date(date: str) -> datetime | None:
    """Return the moment of an x-iex-date header, or None when it has another form."""
    if not _DATE.fullmatch(date):
        return None
    try:
        return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def parse_authorization(header: str) -> Parts | None:
    """Return the parts of an Authorization header, or None when it is not exactly one signature."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme != ALGORITHM:
        return None
    found: dict[str, str] = {}
    for piece in rest.split(","):
        name, equals, value = piece.strip().partition("=")
        if not equals or name not in _PARTS or name in found:
            return None
        found[name] = value
    if len(found) != len(_PARTS) or found["SignedHeaders"] != SIGNED_HEADERS:
        return None
    credential, *scope = found["Credential"].split("/")
    if len(scope) != 2 or scope[1] != SCOPE or not _SIGNATURE.fullmatch(found["Signature"]):
        return None
    return Parts(credential, scope[0], found["Signature"])


def fault_before_body(presented: Presented) -> Fault | None:
    """What is wrong with a signature before looking at the body: its form, its token, its date."""
    if not presented.authorization:
        return Fault.MISSING
    parts = parse_authorization(presented.authorization)
    if parts is None:
        return Fault.MALFORMED
    date = parse_date(presented.request.date)
    if date is None:
        return Fault.DATE_MALFORMED
    if parts.scope_day != presented.request.date[:8]:
        return Fault.OTHER_DAY
    if not hmac.compare_digest(parts.credential.encode(), presented.token_value.encode()):
        return Fault.OTHER_TOKEN
    age = presented.received_at - date
    if age > WINDOW:
        return Fault.TOO_OLD
    return Fault.TOO_NEW if age < -WINDOW else None


def fault(presented: Presented, keys: Sequence[str]) -> Fault | None:
    """What is wrong with a signature; None when it was made with one of these secrets for this request."""
    asked = tuple(keys)
    if asked not in presented.found:
        presented.found[asked] = fault_before_body(presented) or _fault_of_signature(presented, asked)
    return presented.found[asked]


def _fault_of_signature(presented: Presented, keys: tuple[str, ...]) -> Fault | None:
    parts = parse_authorization(presented.authorization)
    if parts is None:
        return Fault.MALFORMED
    received = parts.signature.encode()
    # Every key is tried, even after a match, so that timing does not reveal which one matched.
    fits = False
    for request in _spellings(presented.request):
        for key in keys:
            fits |= hmac.compare_digest(sign(request, key).encode(), received)
    return None if fits else Fault.OTHER_REQUEST


def _spellings(request: Request) -> tuple[Request, ...]:
    """The request as sent, and with its Host without the port, as some clients sign it."""
    bare = host_without_port(request.host)
    if bare == request.host:
        return (request,)
    return (request, replace(request, host=bare))


def host_without_port(host: bytes) -> bytes:
    """Return a Host header without its port; an IPv6 address keeps its brackets."""
    name, colon, port = host.rpartition(b":")
    return name if colon and port.isdigit() and (b":" not in name or name.endswith(b"]")) else host


def _hmac(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode("latin-1", "replace"), hashlib.sha256).hexdigest()
