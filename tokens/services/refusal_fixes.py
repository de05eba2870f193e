"""The last refusals on a token's page, and what fixes one: allow the site, grant the dataset.

    groups(token, settings, may_edit=…) -> list[Group]
    allow_site(token=…, site=…, …), grant_read(token=…, dataset=…, …) -> Token | Refusal

A fix is a saved version of the settings like any other: it waits for the activation delay, and is audited.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import transaction

from apperate.accounts.models import User
from apperate.kernel.refusals import REFUSALS, Refusal, invalid_value
from tokens.gate import refusal_log
from tokens.models import Token, TokenRefusal
from tokens.rules import domains
from tokens.rules.domains import DomainRule
from tokens.rules.permissions import Action, Settings
from tokens.services import lifecycle, rows, saved_settings

SHOWN_MAX = 12


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of refusal; a fix is offered if it would help."""

    row: TokenRefusal
    dataset: str
    allows_site: bool
    grants_dataset: bool


@dataclass(frozen=True, slots=True)
class Group:
    """The refusals for one reason, newest first."""

    code: str
    title: str
    lines: list[Line]

    @property
    def calls(self) -> int:
        return sum(line.row.calls for line in self.lines)


def groups(token: Token, settings: Settings, *, may_edit: bool) -> list[Group]:
    """The last refusals by reason, the reason of the newest one first. `settings`: the last saved ones."""
    refusals = [row for row in refusal_log.last(token) if row.code in REFUSALS][:SHOWN_MAX]
    names = saved_settings.dataset_names(token.workspace) if any(row.dataset_id for row in refusals) else {}
    may_fix = may_edit and not token.is_secret
    found: dict[str, Group] = {}
    for row in refusals:
        group = found.setdefault(row.code, Group(row.code, REFUSALS[row.code][1], []))
        group.lines.append(
            Line(
                row,
                names.get(row.dataset_id, ""),
                allows_site=may_fix and row.code == "domain-not-allowed" and _would_help(row.site, settings),
                grants_dataset=may_fix
                and row.code == "dataset-not-granted"
                and row.dataset_id in names
                and Action.READ not in settings.grants.get(row.dataset_id, ()),
            )
        )
    return list(found.values())


def _would_help(site: str, settings: Settings) -> bool:
    rule = domains.parse_rule(site) if site else None
    rules = settings.allowed_domains
    return (
        isinstance(rule, DomainRule) and bool(rules) and rule not in rules and len(rules) < domains.RULES_MAX
    )


def allow_site(
    *, token: Token, site: str, by: User | None, now: datetime, address: str = ""
) -> Token | Refusal:
    """Add a site to the Allowed Domain(s). A blank list allows any, so it stays blank."""
    rule = domains.parse_rule(site)
    if not isinstance(rule, DomainRule):
        return invalid_value("site", site[:60], rule.needed)

    def added(settings: Settings) -> Settings | Refusal:
        rules = settings.allowed_domains
        if not rules or len(rules) >= domains.RULES_MAX and rule not in rules:
            needed = f"a token with 1 to {domains.RULES_MAX - 1} allowed domains"
            return invalid_value("site", site[:60], needed)
        return replace(settings, allowed_domains=tuple(dict.fromkeys((*rules, rule))))

    return _saved(token, added, by=by, now=now, address=address)


def grant_read(
    *, token: Token, dataset: str, by: User | None, now: datetime, address: str = ""
) -> Token | Refusal:
    """Let the token read a dataset of its workspace, given by name."""
    kept = token.workspace.datasets.filter(deleted_at=None)
    is_name = dataset.isascii() and dataset.isprintable()
    pk = kept.filter(name=dataset).values_list("pk", flat=True).first() if is_name else None
    if pk is None:
        return invalid_value("dataset", ascii(dataset[:60])[1:-1], "a dataset of this workspace")

    def added(settings: Settings) -> Settings:
        actions = settings.grants.get(pk, frozenset()) | {Action.READ}
        return replace(settings, grants={**settings.grants, pk: actions})

    return _saved(token, added, by=by, now=now, address=address)


@transaction.atomic
def _saved(
    token: Token,
    added: Callable[[Settings], Settings | Refusal],
    *,
    by: User | None,
    now: datetime,
    address: str,
) -> Token | Refusal:
    """Save the last saved settings with one addition, under the token's lock."""
    locked = rows.lock(token)
    settings, _ = lifecycle.saved(locked, now=now)
    changes = added(settings)
    if isinstance(changes, Refusal):
        return changes
    outcome = lifecycle.save_settings(
        token=locked, changes=changes, by=by, now=now, based_on=None, address=address
    )
    return outcome if isinstance(outcome, Refusal) else outcome.token
