"""post(): sends one signed message to an address that a workspace chose, and returns the result.

    await post(url, body, message_id=…, secret=…, at=…)   → "" when it was accepted, else what went wrong
    signatures(body, message_id=…, secret=…, at=…)        the headers that sign it

The name is resolved once, each of its addresses is checked, and the connection is made to one of those, so
changing the name's answer in between (DNS rebinding) achieves nothing. Redirects are not followed, only the
head of the answer is read, and the whole exchange has a time limit. Source: docs/security-checks.md, S43.
"""

import asyncio
import hashlib
import hmac
import json
import socket
import ssl
import uuid
from datetime import datetime
from typing import Any

from django.conf import settings
from standardwebhooks import Webhook as StandardWebhook

from apperate.kernel.version import VERSION
from tokens.rules.webhook_target import Target, may_be_called, target_of

SECONDS_MAX = 10.0
HEAD_BYTES_MAX = 16_384
INTERIM_MAX = 5  # answers like "100 Continue" before the final one
ADDRESSES_TRIED_MAX = 3


class NotTaken(Exception):
    """What went wrong, in one sentence without anything the receiver wrote."""


def signatures(body: bytes, *, message_id: uuid.UUID, secret: str, at: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks, and our older header for receivers written before those.

    Apperate-Signature is t=<seconds since 1970>,v1=<hex HMAC-SHA256 of "t.body" under the secret's text>.
    """
    seconds = int(at.timestamp())
    signed = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": str(message_id),
        "webhook-timestamp": str(seconds),
        "webhook-signature": StandardWebhook(secret).sign(str(message_id), at, body.decode()),
        "Apperate-Signature": f"t={seconds},v1={signed.hexdigest()}",
    }


def document(kind: str, message_id: uuid.UUID, workspace: str, at: datetime, data: dict[str, Any]) -> bytes:
    """The body of a message. `id` and everything else stay the same when it is resent."""
    head = {"id": str(message_id), "type": kind, "createdAt": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return json.dumps({**head, "workspace": workspace, **data}).encode()


async def post(url: str, body: bytes, *, message_id: uuid.UUID, secret: str, at: datetime) -> str:
    """POST a JSON body once. Any status from 200 to 299 means it was accepted."""
    target = target_of(url)
    if isinstance(target, str):
        return target
    signed = signatures(body, message_id=message_id, secret=secret, at=at)
    try:
        async with asyncio.timeout(SECONDS_MAX):
            status = await _exchange(target, _request(target, body, signed))
    except NotTaken as fault:
        return str(fault)
    except TimeoutError:
        return f"There was no answer within {SECONDS_MAX:g} seconds."
    except ssl.SSLError:
        return "The connection could not be secured: look at the certificate."
    except OSError:
        return "The connection could not be made, or broke."
    except ValueError:
        return "The answer is not HTTP, or its head is too long."
    if 300 <= status < 400:
        return f"It answered {status}; redirects are not followed."
    return "" if 200 <= status < 300 else f"It answered {status}."


def _request(target: Target, body: bytes, signed: dict[str, str]) -> bytes:
    lines = (
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        f"User-Agent: Apperate/{VERSION}",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in signed.items()),
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii") + body


async def _exchange(target: Target, request: bytes) -> int:
    """Send the request to the first checked address that accepts a connection; the answer's status."""
    reader, writer = await _connected(target, await checked_addresses(target))
    try:
        writer.write(request)
        await writer.drain()
        return await _status(reader)
    finally:
        writer.transport.abort()  # Do not wait for the rest of the answer, however long.


async def checked_addresses(target: Target) -> list[str]:
    """The addresses the host's name resolves to. Raises NotTaken when one of them must not be called."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            target.host, target.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        raise NotTaken("The name of the host could not be resolved.") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses or not all(may_be_called(one, settings.WEBHOOK_NETWORKS) for one in addresses):
        raise NotTaken("The host is not on the public internet, and the operator has not allowed it.")
    return addresses


async def _connected(
    target: Target, addresses: list[str]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context() if target.is_https else None
    fault: OSError = ConnectionRefusedError()
    for address in addresses[:ADDRESSES_TRIED_MAX]:
        try:
            return await asyncio.open_connection(
                address, target.port, limit=HEAD_BYTES_MAX, ssl=context,
                server_hostname=target.host if context else None,
            )  # fmt: skip
        except TimeoutError:
            raise
        except OSError as error:
            fault = error
    raise fault


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the first answer that is not an interim one. Raises ValueError when it is not HTTP."""
    for _ in range(INTERIM_MAX):
        head = await _head(reader)
        version, _, rest = head.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError("no HTTP")
        status = int(rest[:3])
        if status >= 200:
            return status
    raise ValueError("interim answers only")


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        raise ConnectionResetError from None
    except asyncio.LimitOverrunError:
        raise ValueError("the head is too long") from None
