"""Signed requests: what is signed is assembled before the checks, and a signed write works only once.

    present(request, now=…) -> Refusal | None     sets request.signature; reads the body if needed
    claim(request, now=…) -> Refusal | None       claims a write's signature, once for all workers
    purge(now=…) -> int                           deletes signatures whose date is no longer accepted

Tokens that need no signature pay nothing for this, and the bodies of their requests stay unread.
Source: docs/api.md, Signed requests; docs/security-checks.md S25.
"""

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

from django.conf import settings

from apperate.database import pool
from apperate.kernel.refusals import Refusal
from tokens.gate import access
from tokens.gate.access import Facts
from tokens.gate.calls import ApiRequest
from tokens.models import UsedSignature
from tokens.rules import signatures, signing
from tokens.rules.permissions import Action, Snapshot

READING = ("GET", "HEAD", "OPTIONS")

# One row when the signature is new, none when it was used. Index: the primary key.
CLAIM = """
INSERT INTO tokens_usedsignature (digest, expires_at) VALUES (%(digest)s, %(expires_at)s)
ON CONFLICT (digest) DO NOTHING RETURNING 1
"""


async def present(request: ApiRequest, *, now: datetime) -> Refusal | None:
    """Assemble what is signed, for a token that requires signed requests.

    The body is read into a file that moves to disk, and only when the parts before it can be valid.
    """
    request.signature = None
    token = request.token
    if token is None or not token.signs(now=now) or not is_signed(request):
        return None
    presented = signing.Presented(
        request=signing.Request(
            method=request.method,
            path=request.raw_target.split(b"?")[0],
            query=request.scope["query_string"],
            host=request.headers.get("Host", "").encode("latin-1", "replace"),
            date=request.headers.get("X-Iex-Date", ""),
        ),
        authorization=request.headers["Authorization"],
        token_value=request.token_value,
        received_at=now,
    )
    request.signature = presented
    # Requests that will be refused anyway must not write bodies to disk.
    is_active = access.check_active(token, token.versions(now=now), Facts(Action.READ, None), now) is None
    if not is_active or signing.fault_before_body(presented):
        return None
    refusal = await request.hold_body(bytes_max=_body_bytes_max(token, now))
    if refusal is not None:
        return refusal.for_token(token.public_id)
    if request.body_hash is None:
        raise LookupError("of a signed request the body is hashed as it is read")
    signed = replace(presented.request, body_sha256=request.body_hash.hexdigest())
    request.signature = replace(presented, request=signed)
    return None


def is_signed(request: ApiRequest) -> bool:
    """Whether a request carries a signature, well-formed or not."""
    scheme = request.headers.get("Authorization", "").partition(" ")[0]
    return bool(scheme.upper() == signing.ALGORITHM)


async def claim(request: ApiRequest, *, now: datetime) -> Refusal | None:
    """Claim the signature of a request that changes something; refuse it when already claimed."""
    presented = request.signature
    parts = signing.parse_authorization(presented.authorization) if presented else None
    if presented is None or parts is None or request.method in READING:
        return None
    # The header can be written in several ways, the signature in only one.
    token_id = request.checked_token.public_id
    digest = hashlib.sha256(f"{token_id} {parts.signature}".encode()).digest()
    # As long as any worker may still accept its date, plus a minute of clock skew.
    expires_at = now + 2 * signing.WINDOW + timedelta(minutes=1)
    rows = await pool.fetch_all(CLAIM, {"digest": digest, "expires_at": expires_at}, repeat=False)
    return None if rows else signatures.reused(presented.request.date).for_token(token_id)


def purge(*, now: datetime) -> int:
    """Delete the signatures whose date no request may use any more; returns how many."""
    count, _ = UsedSignature.objects.filter(expires_at__lt=now).delete()
    return count


def _body_bytes_max(token: Snapshot, now: datetime) -> int:
    """The limit of an upload for a token that may write at all; else that of a document."""
    may_write = any(
        Action.WRITE in actions
        for version in token.versions(now=now)
        for actions in (version.all_datasets, *version.grants.values())
    )
    largest: int = settings.UPLOAD_BYTES_MAX if may_write else settings.RECORD_BODY_BYTES_MAX
    return largest
