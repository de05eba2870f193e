"""What a token may do: Action, Settings (one version, frozen) and Snapshot (the token for one request).

Pure rules: no Django, no database. Source: docs/decisions/0003-activation.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from tokens.rules.domains import DomainRule
from tokens.rules.token_format import TokenKind

CREDIT_LIMIT_MAX = 10**15  # credits a month
RATE_MAX = 1_000_000  # requests a second, and at once
# Workspaces whose datasets are read with Core and Premium Data Access.
CORE, PREMIUM = "CORE", "PREMIUM"


class Action(StrEnum):
    """What a request does with a dataset."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


NO_GRANTS: Mapping[int, frozenset[Action]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Settings:
    """One version of the settings on the token form. `grants`: dataset id → actions."""

    signed_requests: bool = False
    core_data_access: bool = True
    premium_data_access: bool = False
    grants: Mapping[int, frozenset[Action]] = field(default_factory=lambda: NO_GRANTS)
    all_datasets: frozenset[Action] = frozenset()
    allowed_domains: tuple[DomainRule, ...] = ()
    domains_report_only: bool = False
    core_credit_limit: int | None = None
    requests_per_second: int | None = None
    burst: int | None = None


@dataclass(frozen=True, slots=True)
class WorkspaceFacts:
    """What a check needs to know about a workspace."""

    id: int
    name: str
    has_premium: bool
    allows_secret_in_browser: bool = False
    requests_per_second: int = 5_000  # of its plan: the rate of a token whose settings set none


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret that may sign a token's requests. None: it is stored but cannot be decrypted."""

    secret: str | None = field(repr=False)
    retires_at: datetime | None = None
    is_own: bool = False  # the token's signing secret, not a value of the workspace's secret token


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A token with the versions of its settings, frozen as read from the database.

    `in_force` and `pending` are the versions that count; `effective_at` is when the pending one starts.
    Use versions() for a moment in time: a pending version whose start has passed is in force.
    """

    token_id: int
    public_id: str
    kind: TokenKind
    nickname: str
    workspace: WorkspaceFacts
    disabled_at: datetime | None = None
    deleted_at: datetime | None = None
    expires_at: datetime | None = None
    value_retires_at: datetime | None = None
    in_force: Settings | None = None
    pending: Settings | None = None
    effective_at: datetime | None = None
    signing_keys: tuple[SigningKey, ...] = ()
    signs_with: tuple[int, ...] = ()  # ids of the tokens that own those secrets

    @property
    def is_secret(self) -> bool:
        return self.kind is TokenKind.SECRET

    def versions(self, *, now: datetime) -> tuple[Settings, ...]:
        """The versions that must all allow a request at `now`; empty while nothing is in force."""
        if self.pending is not None and self.effective_at is not None and self.effective_at <= now:
            return (self.pending,)
        if self.in_force is None:
            return ()
        return (self.in_force,) if self.pending is None else (self.in_force, self.pending)

    def signs(self, *, now: datetime) -> bool:
        """Whether a version that counts at `now` requires signed requests."""
        return any(version.signed_requests for version in self.versions(now=now))

    def waits_until(self, *, now: datetime) -> datetime | None:
        """When the pending version takes effect; None when none is pending at `now`."""
        if self.pending is None or self.effective_at is None or self.effective_at <= now:
            return None
        return self.effective_at


@dataclass(frozen=True, slots=True)
class Target:
    """The dataset of a request, as far as permissions need it. `id` is None when there is none."""

    workspace: str
    name: str
    id: int | None


def allows(settings: Settings, workspace: WorkspaceFacts, action: Action, target: Target) -> bool:
    """Whether one version of a publishable token's settings allows an action on a dataset."""
    if target.id is None:
        return False
    if target.workspace == CORE and workspace.name != CORE:
        return action is Action.READ and settings.core_data_access
    if target.workspace == PREMIUM and workspace.name != PREMIUM:
        return action is Action.READ and settings.premium_data_access and workspace.has_premium
    if target.workspace != workspace.name:
        return False
    return action in settings.all_datasets or action in settings.grants.get(target.id, frozenset())


def secret_allows(workspace: WorkspaceFacts, action: Action, target: Target) -> bool:
    """Whether a secret token may: all on its own workspace, reading CORE, and PREMIUM when subscribed."""
    if target.id is None:
        return False
    if target.workspace == workspace.name:
        return True
    if action is not Action.READ:
        return False
    return target.workspace == CORE or (target.workspace == PREMIUM and workspace.has_premium)


def lowest_limit(versions: tuple[Settings, ...]) -> int | None:
    """The credit limit that satisfies all versions; None when no version has one."""
    limits = [v.core_credit_limit for v in versions if v.core_credit_limit is not None]
    return min(limits, default=None)
