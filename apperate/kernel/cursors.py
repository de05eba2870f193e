"""Cursors: a position in a list, as URL-safe text that clients send back unchanged. Pure.

    write(parts, key=…) -> str           the same parts give the same text, because an ETag depends on it
    read(text, key=…) -> list | None     None when the text is damaged, too long, or written with another key

The caller must check the parts: a cursor is untrusted input. With a `key` of 32 bytes it is encrypted, and
padded so that its length reveals little.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

CHARS_MAX = 8_000
BLOCK_BYTES = 128


def write(parts: Sequence[Any], *, key: bytes = b"") -> str:
    written = json.dumps(parts).encode()
    if key:
        written = AESSIV(key).encrypt(written.ljust(-(-len(written) // BLOCK_BYTES) * BLOCK_BYTES), None)
    return base64.urlsafe_b64encode(written).decode().rstrip("=")


def read(text: str, *, key: bytes = b"") -> list[Any] | None:
    if len(text) > CHARS_MAX:
        return None
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        written = base64.b64decode(padded, altchars=b"-_", validate=True)
        parts = json.loads(AESSIV(key).decrypt(written, None) if key else written)
    except (binascii.Error, InvalidTag, ValueError, RecursionError):
        return None
    return parts if isinstance(parts, list) else None
