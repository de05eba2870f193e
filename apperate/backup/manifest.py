"""What a backup says of itself: its last member, a JSON object.

Manifest.of(data) -> Manifest            raises Unusable for what is none
Manifest.as_json() -> bytes
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured

FORMAT = 1
SEALED, LEFT_OUT = "sealed", "left out"


class Unusable(ImproperlyConfigured):
    """A backup cannot be made, read or restored; the message says why and what would be right."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """`tables`: name -> rows at the snapshot; `files`: member -> its bytes and SHA-256; times in ISO 8601."""

    id: str
    made_at: str  # of the snapshot, by the database's clock
    apperate: str
    postgresql: str  # of the server
    pg_dump: str
    migrations: Mapping[str, str]  # app -> its last one
    tables: Mapping[str, int]
    keys: str  # SEALED or LEFT_OUT
    open_jobs: int
    # What was taken away up to here is in the dump; what came later is in the files of revocations alone.
    revocations_until: str
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.made_at)

    @property
    def rows(self) -> int:
        return sum(self.tables.values())

    def as_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def of(cls, data: bytes) -> "Manifest":
        try:
            found = json.loads(data)
            if found["format"] > FORMAT:
                raise Unusable(
                    f"The backup has format {found['format']}, and this version of Apperate reads format "
                    f"{FORMAT}: restore it with the version that made it, {found.get('apperate', 'newer')}."
                )
            manifest = cls(**found)
            datetime.fromisoformat(manifest.made_at), datetime.fromisoformat(manifest.revocations_until)
            return manifest
        except (ValueError, KeyError, TypeError) as error:
            raise Unusable(f"The backup's manifest cannot be read: {error!r}.") from None


def major(version: str) -> int:
    """18 of "18.6 (Debian …)"; 0 when there is no number."""
    found = re.match(r"\s*(\d+)", version)
    return int(found[1]) if found else 0
