"""The place where a page of an answer ended: written into a cursor, read back from one. Pure.

    Place(key_number, taken, date, key, subkey, shard)
    write_cursor(place, question) -> str                   URL-safe text for `cursor=…`
    read_cursor(text, question) -> Place | None            None when it is damaged or of another question

`question` is what was asked, so that a cursor leads on only in the query it came from. A cursor is no secret
and grants nothing: every page is checked, charged and counted like any request.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from datasets.schema import is_storable

CURSOR_CHARS_MAX = 8_000
CURSOR_NEEDED = "the Apperate-Next-Cursor of an answer to the same query"
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


def write_cursor(place: Place, question: str) -> str:
    parts = [question, place.key_number, place.taken, place.date.isoformat()]
    text = json.dumps([*parts, place.key, place.subkey, place.shard])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(text: str, question: str) -> Place | None:
    if len(text) > CURSOR_CHARS_MAX:
        return None
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        asked, key_number, taken, date, key, subkey, shard = parts
        place = Place(key_number, taken, datetime.fromisoformat(date), key, subkey, shard)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        return None
    if asked != question or not all(type(n) is int for n in (key_number, taken, shard)):
        return None
    if not (isinstance(key, str) and isinstance(subkey, str) and is_storable(key + subkey)):
        return None
    in_bounds = key_number >= 0 and 0 <= taken <= TAKEN_MAX and 0 <= shard <= SHARD_MAX
    return place if in_bounds and place.date.tzinfo is not None else None
