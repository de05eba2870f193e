"""The difference between two schemas of a dataset: properties added, removed, relaxed or tightened. Pure.

    schema_changes(old, new) -> SchemaChanges | Refusal      Refusal: an index property would change

Stored records' unique index was built from their key, subkey and date, so these never change.
"""

from dataclasses import dataclass

from apperate.kernel.refusals import Refusal, invalid_value
from datasets.records.schema import INDEX_ROLES, Property, PropertyType, Schema

# Every value of the first type is a value of the second.
WIDER = {
    (PropertyType.INTEGER, PropertyType.NUMBER),
    (PropertyType.DATE, PropertyType.STRING),
}


@dataclass(frozen=True, slots=True)
class SchemaChanges:
    """Names of the properties that differ. Stored records may break `removed`, `tightened` and `added`."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    relaxed: tuple[str, ...] = ()
    tightened: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.relaxed or self.tightened)


def schema_changes(old: Schema, new: Schema) -> SchemaChanges | Refusal:
    """The differences that affect records; changing an index property is refused with the reason."""
    for role in INDEX_ROLES:
        if refusal := _index_change(old, new, role):
            return refusal
    both = [(found, new.get(found.name)) for found in old.properties]
    kept = [(before, after) for before, after in both if after is not None]
    tightened = tuple(before.name for before, after in kept if is_tighter(before, after))
    relaxed = tuple(
        before.name for before, after in kept if before.name not in tightened and is_freer(before, after)
    )
    return SchemaChanges(
        added=tuple(name for name in new.names if old.get(name) is None),
        removed=tuple(before.name for before, after in both if after is None),
        relaxed=relaxed,
        tightened=tightened,
    )


def widens(old: PropertyType, new: PropertyType) -> bool:
    """Whether every value of the old type is also one of the new type."""
    return old is new or new is PropertyType.ANY or (old, new) in WIDER


def is_tighter(old: Property, new: Property) -> bool:
    """Whether the property no longer accepts some values that it accepted before."""
    return not widens(old.type, new.type) or (old.nullable and not new.nullable)


def is_freer(old: Property, new: Property) -> bool:
    """Whether the property now accepts values that it did not accept before."""
    return old.type is not new.type or (new.nullable and not old.nullable)


def _index_change(old: Schema, new: Schema, role: str) -> Refusal | None:
    before, after = getattr(old, role), getattr(new, role)
    why = "because the unique index of the stored records is made from it"
    if before != after:
        needed = f"{before} as before" if before else "no property, as before"
        return invalid_value(f"columnMapping.{role}", after, f"{needed}, {why}", check="body")
    was, will_be = (schema.get(before) if before else None for schema in (old, new))
    if was is None or will_be is None:
        return None
    if (was.type, was.date_format) != (will_be.type, will_be.date_format):
        needed = f"{was.type}, the type it has as {role}, {why}"
        return invalid_value(f"schema.properties.{before}.type", will_be.type, needed, check="body")
    return None
