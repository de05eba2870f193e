"""try_out(): a Trial judged by the current state of the database, and again for after the activation.

At most five queries, all reads, and none through a worker's caches.
"""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection
from django.db.models import Q

from apperate.accounts.models import Workspace
from apperate.database.clock import month_of
from tokens.gate import snapshots
from tokens.models import CreditWindow, Throttle, Token
from tokens.rules.permissions import Snapshot, Target
from tokens.trials.judging import SECRET_PLACEHOLDER, Result, Room, Trial, curl, judge


@dataclass(frozen=True, slots=True)
class Report:
    """How a request would be answered now, after what is pending has taken effect (None: nothing is), and
    at the given moment."""

    now: Result
    after: Result | None
    asked: Result
    curl: str


def try_out(token: Token, trial: Trial, *, now: datetime, at: datetime | None = None) -> Report:
    """Run every check of a token on a request that is not sent. Nothing is charged, taken or written.

    `at`: a future moment, besides now and the end of the activation.
    """
    snapshot, targets = snapshot_now(token), targets_of(trial)
    later = snapshot.waits_until(now=now)
    moments = {now, at or now, later or now}
    room = room_of(token, list(moments))
    results = {moment: judge(snapshot, trial, targets, room, at=moment) for moment in moments}
    return Report(
        now=results[now],
        after=results[later] if later else None,
        asked=results[at or now],
        curl=curl(
            trial,
            address=settings.PUBLIC_URL,
            value=SECRET_PLACEHOLDER if token.is_secret else token.value,
        ),
    )


def snapshot_now(token: Token) -> Snapshot:
    """The snapshot that a worker would load for the token's current value."""
    digest = bytes(token.secrets.current().values_list("digest", flat=True)[0])
    with connection.cursor() as cursor:
        cursor.execute(snapshots.LOAD, {"digest": digest, "has_checksum": True})
        *row, _, _ = cursor.fetchone()
    return snapshots.snapshot_of(row)


def targets_of(trial: Trial) -> list[Target]:
    """The datasets of a trial, each with its id if one of that name exists."""
    if not trial.datasets:
        return []
    wanted = Q()
    for workspace, name in trial.datasets:
        wanted |= Q(name=workspace, datasets__name=name)
    found = Workspace.objects.filter(wanted, datasets__deleted_at=None).values_list(
        "name", "datasets__name", "datasets__pk"
    )
    ids = {(workspace, name): pk for workspace, name, pk in found}
    return [Target(*named, ids.get(named)) for named in trial.datasets]


def room_of(token: Token, moments: list[datetime]) -> Room:
    """What the token has left according to its rows; workers may hold a little of it already."""
    bucket = Throttle.objects.filter(token=token).values_list("level", "filled_at").first()
    months = {month_of(moment).date() for moment in moments}
    windows = CreditWindow.objects.filter(token=token, month__in=months)
    return Room(bucket, dict(windows.values_list("month", "used")))
