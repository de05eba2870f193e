"""Settings as rows: read from a revision, written to one, and compared in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from apperate.accounts.models import Workspace
from tokens.models import Grant, Revision
from tokens.rules import settings_table
from tokens.rules.permissions import Action, Settings
from tokens.rules.settings_table import PERMISSIONS, SETTINGS, with_permissions

ALL_DATASETS = "all datasets, including future ones"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of the form that two versions disagree on, with both values in words."""

    field: str
    label: str
    before: str
    after: str


def of_revision(revision: Revision) -> Settings:
    """Return the settings of one saved version. Uses its grants if they were prefetched."""
    grants = {grant.dataset_id: frozenset(map(Action, grant.actions)) for grant in revision.grants.all()}
    every = frozenset(action for action in Action if getattr(revision, f"all_datasets_{action}"))
    fields = settings_table.loaded(lambda name: getattr(revision, name))
    return normal(Settings(grants=grants, all_datasets=every, **fields))


def normal(settings: Settings) -> Settings:
    """The same settings in canonical form, so that two versions can be compared."""
    return replace(
        settings,
        grants={dataset_id: actions for dataset_id, actions in settings.grants.items() if actions},
    )


def columns(settings: Settings) -> dict[str, Any]:
    """The columns of a Revision for these settings, without grants."""
    every = {f"all_datasets_{action}": action in settings.all_datasets for action in Action}
    return settings_table.stored(settings) | every


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
    """What differs between two versions, in form order. `names`: dataset id → name."""
    old, new = _in_words(before, names), _in_words(after, names)
    return tuple(
        Difference(field, label, old[field], new[field])
        for field, label in LABELS.items()
        if old[field] != new[field]
    )


LABELS = dict(with_permissions([(setting.name, setting.label) for setting in SETTINGS], PERMISSIONS))


def _in_words(settings: Settings, names: Mapping[int, str]) -> dict[str, str]:
    words = {setting.name: setting.words(getattr(settings, setting.name)) for setting in SETTINGS}
    return words | {PERMISSIONS[0]: _permissions(settings, names)}


def _permissions(settings: Settings, names: Mapping[int, str]) -> str:
    parts = [f"{ALL_DATASETS}: {_actions(settings.all_datasets)}"] if settings.all_datasets else []
    # A deleted dataset has no name here, and a grant on it has no effect until it is restored.
    named = sorted(
        (names.get(dataset_id, "a deleted dataset"), a) for dataset_id, a in settings.grants.items()
    )
    return "; ".join(parts + [f"{name}: {_actions(actions)}" for name, actions in named]) or "none"


def _actions(actions: Iterable[Action]) -> str:
    chosen = set(actions)
    return ", ".join(action for action in Action if action in chosen)
