"""The place where a page of an answer ended: written into a cursor, read back from one. Pure.

    Place(key_number, taken, date, key, subkey, shard)
    write_cursor(place, question, key=…) -> str            URL-safe text for `cursor=…`
    read_cursor(text, question, key=…) -> Place | None     None when it is damaged or of another question

`question` is what was asked, so that a cursor leads on only in the query it came from. A cursor grants
nothing: every page is checked, charged and counted like any request. It names the first record of the next
page, which nobody has paid for yet, so the cursor of a priced dataset is encrypted: with a `key` of 32 bytes.
The same place gives the same text, because an answer's ETag depends on it.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from datasets.records.schema import is_storable

CURSOR_CHARS_MAX = 8_000
# An encrypted cursor is filled up to a multiple of this, so that its length tells little.
BLOCK_BYTES = 128
SHARD_MAX = 32_767
TAKEN_MAX = 10**12


@dataclass(frozen=True, slots=True)
class Place:
    """After which record to go on: of the key_number-th key asked for, of which `taken` rows are passed."""

    key_number: int
    taken: int
    date: datetime
    key: str
    subkey: str
    shard: int


def question_of(dataset: str, path: Iterable[str | None], pairs: Iterable[tuple[str, str]]) -> str:
    """A digest of everything that says which records are meant, but for the token and the cursor."""
    asked = sorted((name, value) for name, value in pairs if name not in ("token", "cursor"))
    return hashlib.sha256(json.dumps([dataset, list(path), asked]).encode()).hexdigest()[:16]


def write_cursor(place: Place, question: str, *, key: bytes = b"") -> str:
    parts = [question, place.key_number, place.taken, place.date.isoformat()]
    written = json.dumps([*parts, place.key, place.subkey, place.shard]).encode()
    if key:
        written = AESSIV(key).encrypt(written.ljust(-(-len(written) // BLOCK_BYTES) * BLOCK_BYTES), None)
    return base64.urlsafe_b64encode(written).decode().rstrip("=")


def read_cursor(text: str, question: str, *, key: bytes = b"") -> Place | None:
    if len(text) > CURSOR_CHARS_MAX:
        return None
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        written = base64.b64decode(padded, altchars=b"-_", validate=True)
        parts = json.loads(AESSIV(key).decrypt(written, None) if key else written)
        asked, key_number, taken, date, name, subkey, shard = parts
        place = Place(key_number, taken, datetime.fromisoformat(date), name, subkey, shard)
    except (binascii.Error, InvalidTag, ValueError, TypeError, RecursionError):
        return None
    if asked != question or not all(type(n) is int for n in (key_number, taken, shard)):
        return None
    if not (isinstance(name, str) and isinstance(subkey, str) and is_storable(name + subkey)):
        return None
    in_bounds = key_number >= 0 and 0 <= taken <= TAKEN_MAX and 0 <= shard <= SHARD_MAX
    return place if in_bounds and place.date.tzinfo is not None else None
