"""Settings as rows: what a revision holds, what to write for one, and how two differ in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from apperate.accounts.models import Workspace
from tokens.models import Grant, Revision
from tokens.rules import domains
from tokens.rules.permissions import Action, Settings

ALL_DATASETS = "all datasets, including future ones"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of the form that two versions disagree on, with both values in words."""

    field: str
    label: str
    before: str
    after: str


def of_revision(revision: Revision) -> Settings:
    """Return the settings of one saved version. Uses its prefetched grants when they are there."""
    return normal(
        Settings(
            signed_requests=revision.signed_requests,
            core_data_access=revision.core_data_access,
            premium_data_access=revision.premium_data_access,
            grants={
                grant.dataset_id: frozenset(map(Action, grant.actions)) for grant in revision.grants.all()
            },
            all_datasets=frozenset(
                action for action in Action if getattr(revision, f"all_datasets_{action}")
            ),
            allowed_domains=domains.load(revision.allowed_domains),
            domains_report_only=revision.domains_report_only,
            core_credit_limit=revision.core_credit_limit,
            requests_per_second=revision.requests_per_second,
            burst=revision.burst,
        )
    )


def normal(settings: Settings) -> Settings:
    """The same settings in canonical form, so that two versions can be compared."""
    return replace(
        settings,
        grants={dataset_id: actions for dataset_id, actions in settings.grants.items() if actions},
    )


def columns(settings: Settings) -> dict[str, Any]:
    """What to write into a Revision for these settings, but for its grants."""
    return {
        "signed_requests": settings.signed_requests,
        "core_data_access": settings.core_data_access,
        "premium_data_access": settings.premium_data_access,
        **{f"all_datasets_{action}": action in settings.all_datasets for action in Action},
        "allowed_domains": domains.store(settings.allowed_domains),
        "domains_report_only": settings.domains_report_only,
        "core_credit_limit": settings.core_credit_limit,
        "requests_per_second": settings.requests_per_second,
        "burst": settings.burst,
    }


def grant_rows(settings: Settings, revision: Revision) -> list[Grant]:
    """The unsaved grants of these settings for a revision."""
    return [
        Grant(
            revision=revision,
            dataset_id=dataset_id,
            **{f"can_{action}": action in actions for action in Action},
        )
        for dataset_id, actions in settings.grants.items()
    ]


def dataset_names(workspace: Workspace) -> dict[int, str]:
    """The workspace's datasets, id → name, without deleted ones."""
    return dict(workspace.datasets.filter(deleted_at=None).order_by("name").values_list("pk", "name"))


def differences(before: Settings, after: Settings, names: Mapping[int, str]) -> tuple[Difference, ...]:
    """What changes between two versions, in the order of the form. `names`: dataset id → name."""
    old, new = _in_words(before, names), _in_words(after, names)
    return tuple(
        Difference(field, label, old[field], new[field])
        for field, label in LABELS.items()
        if old[field] != new[field]
    )


LABELS = {
    "signed_requests": "Signed Requests",
    "core_data_access": "Core Data Access",
    "premium_data_access": "Premium Data Access",
    "permissions": "Dataset permissions",
    "allowed_domains": "Allowed Domain(s)",
    "core_credit_limit": "Core Credit Usage Limit",
    "requests_per_second": "Requests per second",
    "burst": "Burst",
    "domains_report_only": "Report-only domains",
}


def _in_words(settings: Settings, names: Mapping[int, str]) -> dict[str, str]:
    return {
        "signed_requests": _switch(settings.signed_requests),
        "core_data_access": _switch(settings.core_data_access),
        "premium_data_access": _switch(settings.premium_data_access),
        "permissions": _permissions(settings, names),
        "allowed_domains": " ".join(domains.store(settings.allowed_domains)) or "any domain",
        "core_credit_limit": _number(settings.core_credit_limit, "credits a month", "no limit"),
        "requests_per_second": _number(settings.requests_per_second, "a second", "the plan's rate"),
        "burst": _number(settings.burst, "requests", "the default"),
        "domains_report_only": _switch(settings.domains_report_only),
    }


def _switch(is_on: bool) -> str:
    return "Enabled" if is_on else "Disabled"


def _number(value: int | None, unit: str, absent: str) -> str:
    return absent if value is None else f"{value:,} {unit}"


def _permissions(settings: Settings, names: Mapping[int, str]) -> str:
    parts = [f"{ALL_DATASETS}: {_actions(settings.all_datasets)}"] if settings.all_datasets else []
    # A grant on a dataset that was deleted has no name here, and no effect until it is restored.
    named = sorted(
        (names.get(dataset_id, "a deleted dataset"), a) for dataset_id, a in settings.grants.items()
    )
    return "; ".join(parts + [f"{name}: {_actions(actions)}" for name, actions in named]) or "none"


def _actions(actions: Iterable[Action]) -> str:
    chosen = set(actions)
    return ", ".join(action for action in Action if action in chosen)
