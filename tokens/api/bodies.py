"""A JSON body of the Tokens API → the changes it makes, or a 400 that names every wrong field.

    parse(document, fields, …) -> Changes | Refusal

Unknown fields, read-only ones, and those with a wrong value are all named at once.
Settings are merged field by field into the last saved ones. Source: docs/api.md, Tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from apperate.kernel.refusals import Refusal
from tokens.models import Token
from tokens.rules import domains
from tokens.rules.domains import DomainRule
from tokens.rules.permissions import Action, Settings
from tokens.rules.settings_table import SETTINGS as SETTINGS_TABLE
from tokens.rules.settings_table import Kind, Setting, with_permissions

READ_ONLY = frozenset(
    {"id", "type", "token", "status", "createdAt", "createdBy", "lastUsedAt", "pending", "usage"}
)
ERRORS_MAX = 100


@dataclass(frozen=True, slots=True)
class Wrong:
    """Why a value is not accepted: what would be right."""

    needed: str


@dataclass(frozen=True, slots=True)
class Changes:
    """The fields a body has; what is not in `given` stays as it is."""

    given: frozenset[str] = frozenset()
    nickname: str = ""
    expires_at: datetime | None = None
    import_value: str | None = field(default=None, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def applied(self, saved: Settings) -> Settings:
        """The settings with the body's values in place."""
        return replace(saved, **self.settings)


def parse(
    document: Any, *, fields: tuple[str, ...], dataset_ids: Callable[[list[str]], Mapping[str, int]]
) -> Changes | Refusal:
    """The changes a body asks for. `dataset_ids(names)` → the ids of the datasets that exist."""
    if not isinstance(document, dict):
        return refusal_of([("body", "a JSON object")], received=type(document).__name__)
    faults: list[tuple[str, str]] = [
        (name, "leave it out: it is read-only" if name in READ_ONLY else f"one of {', '.join(fields)}")
        for name in document
        if name not in fields
    ]
    readers: dict[str, Callable[[Any], Any]] = {
        "nickname": _nickname,
        "expiresAt": moment,
        "importValue": lambda value: (
            value if isinstance(value, str) else Wrong("a value that begins with pk_")
        ),
    }
    values: dict[str, Any] = {}
    for name in fields:
        if name not in document or name not in readers:
            continue
        values[name] = readers[name](document[name])
        if isinstance(values[name], Wrong):
            faults.append((name, values[name].needed))
    settings = _settings(document["settings"], dataset_ids, faults) if "settings" in document else {}
    if faults:
        return refusal_of(faults, received=", ".join(name for name, _ in faults[:10]))
    return Changes(
        given=frozenset(document),
        nickname=values.get("nickname", ""),
        expires_at=values.get("expiresAt"),
        import_value=values.get("importValue"),
        settings=settings,
    )


def nothing(document: Any) -> Refusal | None:
    """Refuse fields in a body where none are accepted."""
    changes = parse(document, fields=(), dataset_ids=lambda names: {}) if document != {} else None
    return changes if isinstance(changes, Refusal) else None


def unknown_fields(document: Mapping[str, Any], fields: tuple[str, ...]) -> Refusal | None:
    """Refuse fields that this operation's body does not have."""
    faults = [(name, f"one of {', '.join(fields)}") for name in document if name not in fields]
    return refusal_of(faults, received=", ".join(name for name, _ in faults[:10])) if faults else None


def wrong(name: str, needed: str, received: object) -> Refusal:
    """The refusal of one field."""
    shown = str(received)
    return refusal_of([(name, needed)], received=f"{name}={shown[:60]}")


def refusal_of(
    faults: list[tuple[str, str]], *, received: str, outcome: str = "Nothing was changed"
) -> Refusal:
    """The refusal that names every wrong field of a body, and what would be right."""
    shown = [(name[:80], needed) for name, needed in faults[:ERRORS_MAX]]
    words = "; ".join(f"{name}: {needed}" for name, needed in shown[:10])
    return Refusal(
        "invalid-values",
        f"{outcome}, because of {words}.",
        check="body",
        received=received[:400],
        needed=words[:800],
        errors=tuple({"field": name, "needed": needed} for name, needed in shown),
    )


# --- single values ------------------------------------------------------------------------------


def _nickname(value: Any) -> str | Wrong:
    needed = Wrong(f"a text of at most {Token.NICKNAME_MAX} visible characters")
    if not isinstance(value, str):
        return needed
    name = " ".join(value.split())
    return name if len(name) <= Token.NICKNAME_MAX and name.isprintable() else needed


def moment(value: Any) -> datetime | None | Wrong:
    """A time with its zone, UTC by default; None stays None."""
    needed = Wrong("a time such as 2027-01-31T18:00:00Z, or null")
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        at = at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return needed
    return at if 1970 <= at.year <= 9_000 else needed


def _flag(value: Any) -> bool | Wrong:
    return value if isinstance(value, bool) else Wrong("true or false")


def _number(lowest: int, highest: int) -> Callable[[Any], int | None | Wrong]:
    def read(value: Any) -> int | None | Wrong:
        fits = value is None or (type(value) is int and lowest <= value <= highest)
        return value if fits else Wrong(f"a whole number from {lowest} to {highest:,}, or null")

    return read


def _actions(value: Any) -> frozenset[Action] | Wrong:
    needed = Wrong("an array of read, write, delete")
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        return needed
    return frozenset(map(Action, value)) if set(value) <= set(Action) else needed


def _domains(value: Any) -> tuple[DomainRule, ...] | Wrong:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return Wrong("an array of domains such as www.example.com")
    if len(value) > domains.RULES_MAX:
        return Wrong(f"at most {domains.RULES_MAX} domains")
    rules = [domains.parse_rule(text) for text in value]
    bad = [str(rule) for rule in rules if not isinstance(rule, DomainRule)]
    if bad:
        return Wrong("; ".join(bad[:5]))
    return tuple(dict.fromkeys(rule for rule in rules if isinstance(rule, DomainRule)))


def _reader(setting: Setting) -> Callable[[Any], Any]:
    match setting.kind:
        case Kind.SWITCH:
            return _flag
        case Kind.DOMAINS:
            return _domains
        case Kind.COUNT:
            return _number(setting.lowest, setting.highest)


# name in the API → (name in Settings, how to read it)
_TABLE = [(setting.api_name, (setting.name, _reader(setting))) for setting in SETTINGS_TABLE]
SETTINGS: Mapping[str, tuple[str, Callable[[Any], Any]]] = dict(
    with_permissions(_TABLE, ("allDatasets", ("all_datasets", _actions)))
)


def _settings(
    document: Any, dataset_ids: Callable[[list[str]], Mapping[str, int]], faults: list[tuple[str, str]]
) -> dict[str, Any]:
    """A body's settings by their names in Settings; faults are added to `faults`."""
    if not isinstance(document, dict):
        faults.append(("settings", "a JSON object"))
        return {}
    read: dict[str, Any] = {}
    for name, value in document.items():
        if name == "datasets":
            found = _grants(value, dataset_ids)
            target = "grants"
        elif name in SETTINGS:
            target, reader = SETTINGS[name]
            found = reader(value)
        else:
            target, found = "", Wrong(f"one of datasets, {', '.join(SETTINGS)}")
        if isinstance(found, Wrong):
            faults.append((f"settings.{name}", found.needed))
        else:
            read[target] = found
    return read


def _grants(
    value: Any, dataset_ids: Callable[[list[str]], Mapping[str, int]]
) -> dict[int, frozenset[Action]] | Wrong:
    if not isinstance(value, dict):
        return Wrong("an object of dataset ids, each with an array of read, write, delete")
    by_name: dict[str, frozenset[Action]] = {}
    for name, words in value.items():
        actions = _actions(words)
        if isinstance(actions, Wrong):
            return Wrong(f"{name[:63]}: {actions.needed}")
        by_name[name.upper()] = by_name.get(name.upper(), frozenset()) | actions
    ids = dataset_ids(list(by_name))
    if missing := sorted(set(by_name) - set(ids)):
        return Wrong(f"datasets of this workspace; {ascii(missing[0][:63])} is none")
    return {ids[name]: actions for name, actions in by_name.items() if actions}
