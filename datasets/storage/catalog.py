"""find(): a dataset's metadata by name, cached per process for reads and kept fresh.

Unknown names are never cached, so a dataset made on one worker is found on another at once. Cached
metadata serves only reads: the read statement returns the metadata's version too, and a read made
with an old version is repeated. Source: docs/decisions/0006-one-table-for-all-records.md.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from apperate.database import shares
from apperate.database.changes import changes
from apperate.database.flights import Flights
from datasets.records.schema import Schema, parse_schema

ENTRIES_MAX = 10_000

COLUMNS = """d.id, w.id, w.name, d.name, d.schema_json::text, d.column_mapping::text,
        d.credits_per_record, d.version, d.is_wide
  FROM datasets_dataset d JOIN accounts_workspace w ON w.id = d.workspace_id"""

# One row or none. Index: datasets_dataset_name_once.
FIND = f"SELECT {COLUMNS} WHERE w.name = %(workspace)s AND d.name = %(name)s AND d.deleted_at IS NULL"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a request needs to know about a dataset, as of `version`."""

    id: int
    workspace_id: int
    workspace: str
    name: str
    schema: Schema
    credits_per_record: int
    version: int
    is_wide: bool

    @property
    def facts(self) -> tuple[int, int, str, str, int, int, bool]:
        """All but the schema, which does not change within a version."""
        return (
            self.id, self.workspace_id, self.workspace, self.name,
            self.credits_per_record, self.version, self.is_wide,
        )  # fmt: skip

    @property
    def is_priced(self) -> bool:
        """Whether its data costs credits: then nothing free may reveal anything about it."""
        return self.credits_per_record > 0


class Catalog:
    """(workspace, name) → Metadata, the least recently used dropped first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, str], Metadata] = OrderedDict()
        self._names: dict[int, tuple[str, str]] = {}

    def get(self, name: tuple[str, str]) -> Metadata | None:
        if (found := self._entries.get(name)) is not None:
            self._entries.move_to_end(name)
        return found

    def put(self, found: Metadata) -> None:
        self.evict([found.id])
        name = (found.workspace, found.name)
        self._entries[name] = found
        self._names[found.id] = name
        while len(self._entries) > ENTRIES_MAX:
            _, oldest = self._entries.popitem(last=False)
            self._names.pop(oldest.id, None)

    def forget(self, name: tuple[str, str]) -> None:
        """Drop a name that no longer belongs to a dataset."""
        if found := self._entries.get(name):
            self.evict([found.id])

    def evict(self, ids: Iterable[int]) -> None:
        for dataset_id in ids:
            if name := self._names.pop(dataset_id, None):
                self._entries.pop(name, None)

    def clear(self) -> None:
        self._entries.clear()
        self._names.clear()


catalog = Catalog()
changes.listen("datasets_dataset", catalog.evict, catalog.clear)


async def find(workspace: str, name: str, *, fresh: bool = False) -> Metadata | None:
    """The dataset of that (normalised) name, or None. At most one query; fresh=True always queries."""
    if fresh:
        return await _load(workspace, name)
    if (known := catalog.get((workspace, name))) is not None:
        return known
    return await loads.join((workspace, name), lambda: _load(workspace, name))


loads: Flights[Metadata | None] = Flights()


async def _load(workspace: str, name: str) -> Metadata | None:
    generation = changes.generation
    rows = await shares.look_up(FIND, {"workspace": workspace, "name": name})
    if not rows:
        catalog.forget((workspace, name))
        return None
    found = metadata(rows[0], known=catalog.get((workspace, name)))
    if generation == changes.generation:
        catalog.put(found)
    return found


def metadata(row: tuple[Any, ...], *, known: Metadata | None = None) -> Metadata:
    """A row of COLUMNS as Metadata. Raises ValueError when its stored schema cannot be read.

    `known`: what was read before; reused when nothing has changed since, because parsing a schema is costly.
    """
    dataset_id, workspace_id, workspace, name, schema_json, mapping, price, version, is_wide = row
    if known is not None and known.facts == (
        dataset_id, workspace_id, workspace, name, price, version, is_wide,
    ):  # fmt: skip
        return known
    schema = parse_schema(json.loads(schema_json), json.loads(mapping))
    if not isinstance(schema, Schema):
        raise ValueError(f"dataset {dataset_id} has an unreadable schema: {schema.detail}")
    return Metadata(dataset_id, workspace_id, workspace, name, schema, price, version, is_wide)
