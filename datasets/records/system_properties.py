"""The platform's facts about a record, added to its JSON text on request. Pure.

    INLINE                          what records of CORE and PREMIUM have beside their own properties
    SYSTEM                          the one property that includeSystemRecordProperties adds
    added(texts, systems, …)        the texts with these properties at the end

Dates are milliseconds since 1970. Source: docs/query-parameters.md.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from apperate.kernel.dates import milliseconds
from apperate.kernel.json_text import dumps
from datasets.records.schema import PropertyType

SYSTEM = "_systemRecordProperties"
TYPES = {
    "id": PropertyType.STRING,
    "key": PropertyType.STRING,
    "subkey": PropertyType.STRING,
    "date": PropertyType.INTEGER,
    "updated": PropertyType.INTEGER,
}
INLINE = tuple(TYPES)


class System(NamedTuple):
    """The facts about one record that are not its own properties."""

    key: str
    subkey: str
    date: datetime
    updated: datetime


def added(
    texts: Sequence[str], systems: Sequence[System], *, dataset: str, inline: Sequence[str], nested: bool
) -> list[str]:
    """The JSON objects with `inline` properties, and SYSTEM if `nested`, at the end."""
    written = []
    for text, system in zip(texts, systems, strict=True):
        values = {
            "id": dataset,
            "key": system.key,
            "subkey": system.subkey,
            "date": milliseconds(system.date),
            "updated": milliseconds(system.updated),
        }
        more = {name: values[name] for name in inline} | ({SYSTEM: values} if nested else {})
        head = text.rstrip()[:-1].rstrip()
        comma = "" if head.endswith("{") or not more else ","
        written.append(f"{head}{comma}{dumps(more)[1:]}")
    return written
