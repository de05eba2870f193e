"""The position where a page of an answer ended: written into a cursor and read back. Pure.

    Place(key_number, taken, date, key, subkey, shard)
    write_cursor(place, question, key=…) -> str            URL-safe text for `cursor=…`
    read_cursor(text, question, key=…) -> Place | None     None if damaged or from another query

`question` identifies the query, so that a cursor only continues the query it came from. A cursor grants
nothing: every page is checked, charged and counted like any request. It names the first record of the next
page, which nobody has paid for yet, so a priced dataset's cursor is encrypted with a `key` of 32 bytes.
The same position gives the same text, because an answer's ETag depends on it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from apperate.kernel import cursors
from datasets.records.schema import is_storable

SHARD_MAX = 32_767
TAKEN_MAX = 10**12


@dataclass(frozen=True, slots=True)
class Place:
    """Where to continue: after this record of the key_number-th key, of which `taken` rows were passed."""

    key_number: int
    taken: int
    date: datetime
    key: str
    subkey: str
    shard: int


def question_of(dataset: str, path: Iterable[str | None], pairs: Iterable[tuple[str, str]]) -> str:
    """A digest of everything that determines which records are meant, without token and cursor."""
    asked = sorted((name, value) for name, value in pairs if name not in ("token", "cursor"))
    return hashlib.sha256(json.dumps([dataset, list(path), asked]).encode()).hexdigest()[:16]


def write_cursor(place: Place, question: str, *, key: bytes = b"") -> str:
    parts = [question, place.key_number, place.taken, place.date.isoformat()]
    return cursors.write([*parts, place.key, place.subkey, place.shard], key=key)


def read_cursor(text: str, question: str, *, key: bytes = b"") -> Place | None:
    try:
        asked, key_number, taken, date, name, subkey, shard = cursors.read(text, key=key) or []
        place = Place(key_number, taken, datetime.fromisoformat(date), name, subkey, shard)
    except (ValueError, TypeError):
        return None
    if asked != question or not all(type(n) is int for n in (key_number, taken, shard)):
        return None
    if not (isinstance(name, str) and isinstance(subkey, str) and is_storable(name + subkey)):
        return None
    in_bounds = key_number >= 0 and 0 <= taken <= TAKEN_MAX and 0 <= shard <= SHARD_MAX
    return place if in_bounds and place.date.tzinfo is not None else None
