"""A token's settings in ONE table, read by the form, API, wording, columns, snapshot and comparison.

    for setting in SETTINGS: …      in form order
    setting.load(column) → value    from a Revision's column to the field of Settings
    setting.store(value) → column   and back; the API writes the same
    setting.words(value) → text     for people

To add a setting, add a field to Settings, an entry here, a column to Revision and a widget to the form.
Dataset permissions are not in it: they have a table of their own, Grant. Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from tokens.rules import domains
from tokens.rules.permissions import CREDIT_LIMIT_MAX, RATE_MAX, Settings

T = TypeVar("T")


class Kind(StrEnum):
    """The type of a value, and so how the API reads it."""

    SWITCH = "switch"
    COUNT = "count"
    DOMAINS = "domains"


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `lowest` and `highest` apply to a count, which may also be absent: None."""

    name: str  # in Settings, in Revision, and on the form
    api_name: str
    label: str
    kind: Kind
    words: Callable[[Any], str]
    load: Callable[[Any], Any] = _same
    store: Callable[[Any], Any] = _same
    lowest: int = 0
    highest: int = 0


def _switch(name: str, api_name: str, label: str) -> Setting:
    return Setting(name, api_name, label, Kind.SWITCH, lambda is_on: "Enabled" if is_on else "Disabled")


def _count(
    name: str, api_name: str, label: str, *, lowest: int, highest: int, unit: str, absent: str
) -> Setting:
    return Setting(
        name, api_name, label, Kind.COUNT, lambda value: absent if value is None else f"{value:,} {unit}",
        lowest=lowest, highest=highest,
    )  # fmt: skip


SETTINGS: tuple[Setting, ...] = (
    _switch("signed_requests", "signedRequests", "Signed Requests"),
    _switch("core_data_access", "coreDataAccess", "Core Data Access"),
    _switch("premium_data_access", "premiumDataAccess", "Premium Data Access"),
    Setting(
        "allowed_domains", "allowedDomains", "Allowed Domain(s)", Kind.DOMAINS,
        lambda rules: " ".join(domains.store(rules)) or "any domain", domains.load, domains.store,
    ),
    _count(
        "core_credit_limit", "coreCreditLimit", "Core Credit Usage Limit",
        lowest=0, highest=CREDIT_LIMIT_MAX, unit="credits a month", absent="no limit",
    ),
    _count(
        "requests_per_second", "requestsPerSecond", "Requests per second",
        lowest=1, highest=RATE_MAX, unit="a second", absent="the plan's rate",
    ),
    _count(
        "burst", "burst", "Burst", lowest=1, highest=RATE_MAX, unit="requests", absent="the default"
    ),
    _switch("domains_report_only", "domainsReportOnly", "Report-only domains"),
)  # fmt: skip
PERMISSIONS = ("permissions", "Dataset permissions")  # on the form after the switches of CORE and PREMIUM
BEFORE_PERMISSIONS = 3


def with_permissions(settings: Sequence[T], *permissions: T) -> list[T]:
    """Something for each setting, in form order, with that for the permissions in its place."""
    return [*settings[:BEFORE_PERMISSIONS], *permissions, *settings[BEFORE_PERMISSIONS:]]


def loaded(columns: Callable[[str], Any]) -> dict[str, Any]:
    """The fields of Settings from stored columns, by name, without the permissions."""
    return {setting.name: setting.load(columns(setting.name)) for setting in SETTINGS}


def stored(settings: Settings) -> dict[str, Any]:
    """The columns for these settings, by name, without the permissions."""
    return {setting.name: setting.store(getattr(settings, setting.name)) for setting in SETTINGS}
