"""What a dataset's records look like: properties, their types, and the unique index. Pure.

    dataset_id(text) -> str | Refusal                      the only normaliser of dataset and workspace ids
    parse_schema(schema_json, column_mapping) -> Schema | Refusal
    Schema.to_json() -> dict, Schema.column_mapping() -> dict, Schema.get(name) -> Property | None

checking.py checks records (`RecordChecker`, `Row`), json_text.py reads JSON text (`loads_records`).
Property names are data and may be any text; they never become SQL identifiers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from apperate.kernel.json_text import shown
from apperate.kernel.refusals import Refusal, invalid_value

PROPERTIES_MAX = 1_000
NAME_CHARS_MAX = 255
DESCRIPTION_CHARS_MAX = 2_000
RESERVED_PREFIX = "_system"

_ID = re.compile(r"[A-Za-z0-9_]{1,63}")


class PropertyType(StrEnum):
    """The types a property may have."""

    DATE = "date"
    NUMBER = "number"
    INTEGER = "integer"
    STRING = "string"
    OBJECT = "object"
    ARRAY = "array"
    BOOLEAN = "boolean"
    ANY = "any"


DATE_FORMATS = ("date", "date-time")
KEY_TYPES = frozenset({PropertyType.STRING, PropertyType.INTEGER, PropertyType.NUMBER, PropertyType.DATE})
# A number as a date is a year.
DATE_INDEX_TYPES = frozenset({PropertyType.DATE, PropertyType.STRING, PropertyType.INTEGER})
INDEX_ROLES = ("key", "subkey", "date")


@dataclass(frozen=True, slots=True)
class Property:
    """One column of a dataset. `date_format` ("date" or "date-time") applies only to dates."""

    name: str
    type: PropertyType
    nullable: bool = True
    description: str = ""
    date_format: str = "date"

    def to_json(self) -> dict[str, str]:
        """The property as JSON Schema; `any` is a schema without a type."""
        described = {"description": self.description} if self.description else {}
        if self.type is PropertyType.ANY:
            return described
        if self.type is PropertyType.DATE:
            return {"type": "string", "format": self.date_format} | described
        return {"type": self.type.value} | described


@dataclass(frozen=True, slots=True)
class Schema:
    """A dataset's properties in order, and which of them form its unique index (None: not mapped)."""

    properties: tuple[Property, ...]
    key: str | None = None
    subkey: str | None = None
    date: str | None = None
    _by_name: Mapping[str, Property] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {found.name: found for found in self.properties})

    @property
    def names(self) -> tuple[str, ...]:
        """The property names in order."""
        return tuple(found.name for found in self.properties)

    @property
    def date_names(self) -> tuple[str, ...]:
        """The date properties: of that type, or an integer year that is mapped as the date."""
        dates = (one for one in self.properties if one.type is PropertyType.DATE or one.name == self.date)
        return tuple(one.name for one in dates)

    def get(self, name: str) -> Property | None:
        """The property of exactly that name, if there is one."""
        return self._by_name.get(name)

    def to_json(self) -> dict[str, Any]:
        """The schema as a JSON Schema object; parse_schema reads it back to an equal Schema."""
        return {
            "type": "object",
            "properties": {found.name: found.to_json() for found in self.properties},
            "required": [found.name for found in self.properties if not found.nullable],
        }

    def column_mapping(self) -> dict[str, str]:
        """The mapped index properties by role; roles that are not mapped are left out."""
        roles = {"key": self.key, "subkey": self.subkey, "date": self.date}
        return {role: name for role, name in roles.items() if name is not None}


def dataset_id(text: str) -> str | Refusal:
    """The stored form of a dataset or workspace id: upper-case, 1 to 63 of A–Z, 0–9 and underscore."""
    if not _ID.fullmatch(text) or text.lower().startswith(RESERVED_PREFIX):
        needed = "1 to 63 letters, digits or underscores, not beginning with _system"
        return invalid_value("id", shown(text), needed)
    return text.upper()


def parse_schema(schema_json: object, column_mapping: object = None) -> Schema | Refusal:
    """The Schema that a JSON Schema object and its column mapping describe, or what is wrong with them.

    It uses `properties`, `required`, and each property's `type`, `format` and `description`; other JSON
    Schema keywords are ignored. Index properties are required. Source: docs/api.md, Changing a dataset.
    """
    if not isinstance(schema_json, Mapping) or not isinstance(schema_json.get("properties"), Mapping):
        needed = 'an object like {"type": "object", "properties": {"name": {"type": "string"}}}'
        return _bad("schema", schema_json, needed)
    found = schema_json["properties"]
    if not 1 <= len(found) <= PROPERTIES_MAX:
        return _bad("schema.properties", len(found), f"1 to {PROPERTIES_MAX:,} properties")
    required = schema_json.get("required") or []
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        return _bad("schema.required", required, "an array of property names")
    for name in required:
        if name not in found:
            return _bad("schema.required", name, "names that are in schema.properties")
    mapping = _parse_mapping(column_mapping)
    if isinstance(mapping, Refusal):
        return mapping
    properties: dict[str, Property] = {}
    present = frozenset(required)
    for name, described in found.items():
        parsed = _parse_property(name, described, required=name in present)
        if isinstance(parsed, Refusal):
            return parsed
        properties[name] = parsed
    return _with_index(properties, mapping)


def _parse_mapping(column_mapping: object) -> dict[str, str] | Refusal:
    """The property name for each role; null and empty text mean that the role is not mapped."""
    if column_mapping is None:
        return {}
    if not isinstance(column_mapping, Mapping):
        return _bad("columnMapping", column_mapping, 'an object like {"key": "ticker", "date": "day"}')
    mapping: dict[str, str] = {}
    for role, name in column_mapping.items():
        if role not in INDEX_ROLES:
            return _bad("columnMapping", role, "no other names than key, subkey and date")
        if name is None or name == "":
            continue
        if not isinstance(name, str):
            return _bad(f"columnMapping.{role}", name, "the name of a property")
        mapping[role] = name
    if "subkey" in mapping and "key" not in mapping:
        return _bad("columnMapping.subkey", mapping["subkey"], "a key as well, a subkey narrows a key")
    if len(set(mapping.values())) < len(mapping):
        return _bad("columnMapping", dict(mapping), "a different property for each of key, subkey and date")
    return mapping


def _parse_property(name: object, described: object, *, required: bool) -> Property | Refusal:
    fault = name_fault(name)
    if fault or not isinstance(name, str):
        return _bad("schema.properties", name, fault or "text as name")
    where = f"schema.properties.{shown(name)}"
    if not isinstance(described, Mapping):
        return _bad(where, described, 'an object like {"type": "number"}')
    description = described.get("description") or ""
    if not isinstance(description, str) or len(description) > DESCRIPTION_CHARS_MAX:
        needed = f"text of at most {DESCRIPTION_CHARS_MAX:,} characters"
        return _bad(f"{where}.description", description, needed)
    if not is_storable(description):
        return _bad(f"{where}.description", description, "text without NUL and half surrogate pairs")
    parsed = _parse_type(described.get("type"), described.get("format"))
    if parsed is None:
        needed = "one of " + ", ".join(kind.value for kind in PropertyType)
        return _bad(f"{where}.type", described.get("type"), needed)
    kind, null_allowed = parsed
    date_format = "date-time" if described.get("format") == "date-time" else "date"
    return Property(name, kind, not required or null_allowed, description, date_format)


def name_fault(name: object) -> str | None:
    """What a property name must be, if it is not."""
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARS_MAX:
        return f"names of 1 to {NAME_CHARS_MAX} characters"
    if name.lower().startswith(RESERVED_PREFIX):
        return "names that do not begin with _system"
    return None if is_storable(name) else "names without NUL and without half surrogate pairs"


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can store the text: no NUL, no lone surrogate."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse_type(given: object, given_format: object) -> tuple[PropertyType, bool] | None:
    """The type, and whether null is allowed too; None for an unknown type."""
    names = given if isinstance(given, list) else ["any" if given is None else given]
    kinds = {name.lower() for name in names if isinstance(name, str)}
    if not kinds or not all(isinstance(name, str) for name in names):
        return None
    null_allowed = "null" in kinds
    kinds -= {"null"}
    if not kinds <= {kind.value for kind in PropertyType}:
        return None
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    kind = PropertyType(kinds.pop()) if len(kinds) == 1 else PropertyType.ANY
    if kind is PropertyType.STRING and given_format in DATE_FORMATS:
        kind = PropertyType.DATE
    return kind, null_allowed


def _with_index(properties: dict[str, Property], mapping: dict[str, str]) -> Schema | Refusal:
    """The schema with its index properties required, and a text property that is the date typed as date."""
    for role, name in mapping.items():
        mapped = properties.get(name)
        if mapped is None:
            return _bad(f"columnMapping.{role}", name, "the name of a property of the schema")
        fitting = KEY_TYPES if role != "date" else DATE_INDEX_TYPES
        if mapped.type not in fitting:
            needed = "a property of type " + " or ".join(sorted(fitting))
            return _bad(f"columnMapping.{role}", f"{name}, of type {mapped.type}", needed)
        is_text_date = role == "date" and mapped.type is PropertyType.STRING
        kind = PropertyType.DATE if is_text_date else mapped.type
        properties[name] = Property(name, kind, False, mapped.description, mapped.date_format)
    return Schema(tuple(properties.values()), mapping.get("key"), mapping.get("subkey"), mapping.get("date"))


def _bad(name: str, received: object, needed: str) -> Refusal:
    return invalid_value(name, shown(received), needed, check="body")
