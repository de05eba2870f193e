"""Queries for the token pages: rows of the list, pending changes, activity, and an example request."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, OuterRef, Prefetch, Q, QuerySet, Subquery, Sum
from django.db.models.functions import TruncDate

from apperate.accounts.models import Workspace
from apperate.database.clock import month_of
from tokens.models import CreditWindow, Revision, Secret, Status, Token, UsageCounter
from tokens.rules import domains
from tokens.rules.permissions import CORE, Action, Settings
from tokens.rules.token_format import TokenKind
from tokens.services import saved_settings
from tokens.services.lifecycle import TRASH_DAYS
from tokens.services.saved_settings import Difference

PAGE_ROWS = 100
ACTIVITY_DAYS = 30
EXAMPLE_DATASET = "HISTORICAL_PRICES"
# The statuses of tokens in the list; those in the trash have a list of their own.
LISTED = tuple(status for status in Status if status != Status.DELETED)
# The badge of each status; its text carries the meaning, its colour only helps.
STATUS_BADGES = {
    Status.DELETED: "badge",
    Status.DISABLED: "badge badge-bad",
    Status.EXPIRED: "badge badge-bad",
    Status.ACTIVATING: "badge badge-warn",
    Status.PENDING: "badge badge-warn",
    Status.ACTIVE: "badge badge-ok",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """CORE credits spent this month, and the limit in effect (None: no limit)."""

    used: int
    limit: int | None

    @property
    def percent(self) -> int:
        return 100 if self.limit == 0 else self.used * 100 // (self.limit or 1)

    @property
    def is_over(self) -> bool:
        return self.limit is not None and self.used >= self.limit

    @property
    def is_near(self) -> bool:
        return self.limit is not None and not self.is_over and self.percent >= 80


@dataclass(frozen=True, slots=True)
class Row:
    """One token of the list; also the head of its own page."""

    token: Token
    status: Status
    switches_at: datetime | None  # when the pending version takes effect
    access: tuple[str, ...]
    usage: Usage
    last_used_at: datetime | None
    expires_for_good_at: datetime | None  # when a token in the trash can no longer be restored

    @property
    def badge(self) -> str:
        return STATUS_BADGES[self.status]


def of_workspace(workspace: Workspace, *, now: datetime, with_grants: bool = False) -> QuerySet[Token]:
    """The workspace's tokens, oldest first, each with what a row needs, in three queries (grants: four)."""
    revisions = Revision.objects.live().annotate(datasets=Count("grants"))
    if with_grants:
        revisions = revisions.prefetch_related("grants")
    window = CreditWindow.objects.filter(token=OuterRef("pk"), month=month_of(now).date())
    last = UsageCounter.objects.filter(token_id=OuterRef("pk"), outcome="ok").order_by("-minute")
    return (
        workspace.tokens.oldest_first()
        .annotate(used=Subquery(window.values("used")[:1]), last_used_at=Subquery(last.values("minute")[:1]))
        .prefetch_related(
            Prefetch("revisions", queryset=revisions, to_attr="live_revisions"),
            Prefetch("secrets", queryset=Secret.objects.current(), to_attr="current_secrets"),
        )
    )


def filtered(
    tokens: QuerySet[Token], *, kind: str, status: str = "", query: str, now: datetime
) -> QuerySet[Token]:
    """Narrow the list.

    `kind`: a TokenKind, "trash" or "" (all outside the trash); `status`: one of LISTED, else every status;
    `query`: part of a name or a token.
    """
    if kind == "trash":
        tokens = tokens.filter(deleted_at__gt=now - timedelta(days=TRASH_DAYS))
    else:
        tokens = tokens.kept()  # type: ignore[attr-defined]
        if kind in set(TokenKind):
            tokens = tokens.filter(kind=kind)
        if status in LISTED:
            tokens = with_status(tokens, Status(status), now=now)
    for word in query.split()[:5]:
        tokens = tokens.filter(
            Q(nickname__icontains=word) | Q(public_id__icontains=word) | Q(secrets__clear=word)
            | Q(secrets__masked__icontains=word)
        ).distinct()  # fmt: skip
    return tokens


def with_status(tokens: QuerySet[Token], status: Status, *, now: datetime) -> QuerySet[Token]:
    """The tokens outside the trash with this status(); the database applies the same rules."""
    live = Revision.objects.filter(token=OuterRef("pk")).live().order_by("-number").values("effective_at")
    disabled, expired = Q(disabled_at__isnull=False), Q(expires_at__lte=now, expires_at__isnull=False)
    if status == Status.DISABLED:
        return tokens.filter(disabled)
    tokens = tokens.exclude(disabled)
    if status == Status.EXPIRED:
        return tokens.filter(expired)
    tokens = tokens.exclude(expired).annotate(newest=Subquery(live[:1]), older=Subquery(live[1:2]))
    if status == Status.ACTIVATING:
        return tokens.filter(Q(newest=None) | Q(newest__gt=now, older=None))
    return (
        tokens.filter(newest__gt=now, older__isnull=False)
        if status == Status.PENDING
        else tokens.filter(newest__lte=now)
    )


def counts(workspace: Workspace, *, now: datetime) -> dict[str, int]:
    """How many tokens each tab of the list has; one query."""
    kept = Q(deleted_at=None)
    return workspace.tokens.aggregate(
        all=Count("pk", filter=kept),
        publishable=Count("pk", filter=kept & Q(kind=TokenKind.PUBLISHABLE)),
        secret=Count("pk", filter=kept & Q(kind=TokenKind.SECRET)),
        trash=Count("pk", filter=Q(deleted_at__gt=now - timedelta(days=TRASH_DAYS))),
    )


def row(token: Token, *, now: datetime) -> Row:
    """The row of a token from of_workspace()."""
    versions = token.versions(now=now)
    saved = versions.saved
    limits = [v.core_credit_limit for v in (versions.in_force, versions.pending) if v]
    known = [limit for limit in limits if limit is not None]
    return Row(
        token=token,
        status=token.status(now=now),
        switches_at=versions.pending.effective_at if versions.pending else None,
        access=_access(token, saved),
        usage=Usage(getattr(token, "used", None) or 0, min(known, default=None)),
        last_used_at=getattr(token, "last_used_at", None),
        expires_for_good_at=token.deleted_at and token.deleted_at + timedelta(days=TRASH_DAYS),
    )


def _access(token: Token, revision: Revision | None) -> tuple[str, ...]:
    """A token's permissions in a few words, by its last saved version."""
    if token.is_secret:
        return ("Full access",)
    if revision is None:
        return ()
    allowed, granted = len(revision.allowed_domains), getattr(revision, "datasets", 0)
    words = {
        "Core": revision.core_data_access,
        "Premium": revision.premium_data_access,
        "All datasets": any(getattr(revision, f"all_datasets_{action}") for action in Action),
        _plural(granted, "dataset"): granted,
        "Signed": revision.signed_requests,
        _plural(allowed, "domain"): allowed,
    }
    return tuple(word for word, holds in words.items() if holds) or ("No data",)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Pending:
    """What a saved version will change, and when."""

    effective_at: datetime
    saved_by: str
    is_first: bool  # the token is new, so nothing is in force yet
    changes: tuple[Difference, ...]
    shuts_out_all_sites: bool  # no page satisfies both domain lists until the old one is gone


def pending(token: Token, *, now: datetime) -> Pending | None:
    """What is pending for a token, with both values of each changed field in words."""
    versions = token.versions(now=now)
    if versions.pending is None:
        return None
    new = saved_settings.of_revision(versions.pending)
    old = saved_settings.of_revision(versions.in_force) if versions.in_force else new
    return Pending(
        effective_at=versions.pending.effective_at,
        saved_by=str(versions.pending.saved_by or "the system"),
        is_first=versions.in_force is None,
        changes=saved_settings.differences(old, new, saved_settings.dataset_names(token.workspace)),
        shuts_out_all_sites=not domains.may_share_a_site(old.allowed_domains, new.allowed_domains),
    )


@dataclass(frozen=True, slots=True)
class Activity:
    """A token's activity: calls and credits of each of the last 30 days (UTC), oldest first."""

    calls: tuple[int, ...]
    credits: tuple[int, ...]
    today: int
    refused_today: int
    last_used_at: datetime | None
    has_demo_rows: bool

    @property
    def spends(self) -> bool:
        """Whether the chart shows credits; calls when nothing the token read cost any."""
        return any(self.credits)

    @property
    def series(self) -> tuple[int, ...]:
        return self.credits if self.spends else self.calls


def activity(token: Token, *, now: datetime) -> Activity:
    """Two queries: the days, and the last use. Index: tokens_usage_once."""
    today = now.date()
    first = today - timedelta(days=ACTIVITY_DAYS - 1)
    counters = UsageCounter.objects.filter(token_id=token.pk)
    since = datetime.combine(first, datetime.min.time(), tzinfo=now.tzinfo)
    by_day = (
        counters.filter(minute__gte=since)
        .annotate(day=TruncDate("minute"))
        .values("day")
        .annotate(
            called=Sum("calls"),
            spent=Sum("credits"),
            refused=Sum("calls", filter=~Q(outcome="ok")),
            demo=Count("pk", filter=Q(is_demo=True)),
        )
    )
    days: dict[date, dict[str, Any]] = {found["day"]: dict(found) for found in by_day}
    moments = [days.get(first + timedelta(days=n), {}) for n in range(ACTIVITY_DAYS)]
    last = counters.filter(outcome="ok").order_by("-minute").values_list("minute", flat=True).first()
    return Activity(
        calls=tuple(day.get("called", 0) for day in moments),
        credits=tuple(day.get("spent", 0) for day in moments),
        today=moments[-1].get("called", 0),
        refused_today=moments[-1].get("refused") or 0,
        last_used_at=last,
        has_demo_rows=any(day.get("demo") for day in moments),
    )


def example_dataset(token: Token, settings: Settings) -> str:
    """A dataset this token may read, as WORKSPACE/NAME; a well-known one of CORE if it has none."""
    own = token.workspace.datasets.filter(deleted_at=None).order_by("name")
    if not token.is_secret and Action.READ not in settings.all_datasets:
        own = own.filter(pk__in=[pk for pk, actions in settings.grants.items() if Action.READ in actions])
    name = own.values_list("name", flat=True).first()
    return f"{token.workspace.name}/{name}" if name else f"{CORE}/{EXAMPLE_DATASET}"


def page_of(rows: int) -> int:
    """The number of the last page of a list with this many rows."""
    return max(1, -(-rows // PAGE_ROWS))
