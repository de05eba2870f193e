"""Erasing a workspace: every row and file of it. Source: docs/decisions/0020-erasing.md.

    refusal_of(workspace) -> str        why it cannot be erased now; "" when it can
    close(workspace, now=…)             from then on nobody is served, and nothing of it is written
    erase(workspace, now=…) -> Erased   removes it; everything may be run again when it was interrupted

Between the two lies the time that a worker may serve from memory. Each step is a transaction of its own, so
that the rest of the installation goes on while much is removed.
"""

from dataclasses import dataclass
from datetime import datetime

from allauth.usersessions.models import UserSession
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import connection, models, transaction

from apperate.accounts.audit import trail
from apperate.accounts.models import Membership, User, Workspace
from apperate.database.changes import STALE_SECONDS_MAX
from apperate.kernel.refusals import Refusal
from datasets.models import Dataset, IngestJob, StagedFile
from datasets.services import editing, trash
from datasets.storage import job_files
from datasets.storage.kept_folders import KeptFolder
from tokens.models import Token, TokenRefusal, UsageCounter
from tokens.services import lifecycle

# A worker that hears nothing of the database for so long refuses everything; one poll more, to be sure.
WAIT_SECONDS = STALE_SECONDS_MAX + 1
EVENTS_AT_ONCE = 2_000
ROWS_AT_ONCE = 20_000
LOCK_SECONDS = 30


class Busy(Exception):
    """Something of the workspace is being written and does not end: to be tried again."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How many of each there were. `last_seal`: that of its last audit event, in hexadecimal."""

    tokens: int
    datasets: int
    people: int
    events: int
    files: int
    last_seal: str


def refusal_of(workspace: Workspace) -> str:
    if workspace.is_system:
        return f"{workspace.name} is a system workspace, whose data others read."
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'accounts_auditevent'::regclass"
        )
        if not cursor.fetchone()[0]:
            return "Only the role that owns the tables may erase audit events: set DATABASE_OWNER_URL."
    return ""


def close(workspace: Workspace, *, now: datetime) -> None:
    """Nobody can sign in to it, no token is served, no dataset is there, jobs are asked to stop."""
    _close_to_people(workspace)
    with transaction.atomic():
        for token in workspace.tokens.filter(disabled_at=None):
            lifecycle.disable(token=token, by=None, now=now)
        workspace.invitations.all().delete()
    jobs = IngestJob.objects.filter(dataset__workspace=workspace).exclude(status__in=IngestJob.ENDED)
    jobs.update(cancel_requested_at=now)
    for dataset in workspace.datasets.kept():
        outcome = editing.delete_dataset(dataset=dataset, by=None, now=now)
        if isinstance(outcome, Refusal) and dataset in workspace.datasets.kept():
            raise Busy(f"The dataset {dataset.name} is being written: {outcome.detail}")


def _close_to_people(workspace: Workspace) -> None:
    """Close the accounts of those who are in no other workspace, to be erased; others just leave."""
    for user in people_of(workspace):
        keys = UserSession.objects.filter(user=user).values_list("session_key", flat=True)
        Session.objects.filter(session_key__in=list(keys)).delete()
        user.is_active = False
        user.save(update_fields=["is_active"])
    workspace.memberships.exclude(user__in=people_of(workspace)).delete()


def people_of(workspace: Workspace) -> list[User]:
    """Its members who are in no other workspace and are no operators."""
    elsewhere = Membership.objects.exclude(workspace=workspace).values("user")
    members = User.objects.filter(memberships__workspace=workspace, is_staff=False, is_superuser=False)
    return list(members.exclude(pk__in=elsewhere))


def erase(workspace: Workspace, *, now: datetime) -> Erased:
    people, token_ids = people_of(workspace), list(workspace.tokens.values_list("pk", flat=True))
    datasets = list(workspace.datasets.all())
    files = _files_of(workspace)
    for dataset in datasets:
        _erase_dataset(dataset)
    for folder in files:
        folder.remove()
    for model in (UsageCounter, TokenRefusal):
        _erase_rows(model, token_ids)
    events, seal = _erase_events(workspace)
    with transaction.atomic():
        _lift_limits()
        _forget_in_admin(workspace, token_ids, datasets, people)
        workspace.tokens.all().delete()
        # Its other rows go with it: counters of storage, answers that were kept, the webhook, memberships.
        workspace_id = workspace.pk
        workspace.delete()
        for user in people:
            user.delete()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM accounts_audithead WHERE chain = %s", [workspace_id])
        done = Erased(len(token_ids), len(datasets), len(people), events, len(files), seal)
        trail.record(
            "workspace.erased", workspace=None, by=None, now=now,
            after={"workspace_id": workspace_id, "events": events, "last_seal": seal},
        )  # fmt: skip
    return done


def _erase_dataset(dataset: Dataset) -> None:
    with transaction.atomic():
        _lift_limits()
        locked = Dataset.objects.select_for_update().filter(pk=dataset.pk).first()
        if locked is not None:
            trash.remove(locked)


def _files_of(workspace: Workspace) -> list[KeptFolder]:
    """Those of its jobs, and of uploads that were not finished."""
    jobs = IngestJob.objects.filter(dataset__workspace=workspace)
    staged = StagedFile.objects.filter(workspace=workspace, name__startswith="upload/")
    folders = [job_files.kept(job) for job in jobs.only("public_id")]
    folders += map(KeptFolder, staged.values_list("name", flat=True))
    return [folder for folder in folders if folder.exists()]


def _erase_rows(model: type[models.Model], token_ids: list[int]) -> None:
    """Rows without a foreign key, some at a time."""
    rows = model._default_manager.filter(token_id__in=token_ids)
    while found := list(rows.values_list("pk", flat=True)[:ROWS_AT_ONCE]):
        model._default_manager.filter(pk__in=found).delete()


def _erase_events(workspace: Workspace) -> tuple[int, str]:
    """The audit events, from the first to the last; how many, and the seal of the last.

    The trigger that keeps them is off while a step runs, which nobody but the owner of the table can do. A
    step is short, because nothing else can be audited meanwhile; what is left after each still fits together.
    """
    seal, count = "", 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            _lift_limits()
            cursor.execute("SELECT digest FROM accounts_audithead WHERE chain = %s", [workspace.pk])
            head = cursor.fetchone()
            seal = bytes(head[0]).hex() if head else seal
            cursor.execute("ALTER TABLE accounts_auditevent DISABLE TRIGGER audit_rows_stay")
            cursor.execute(
                """WITH gone AS (
                       DELETE FROM accounts_auditevent WHERE id IN (
                           SELECT id FROM accounts_auditevent WHERE workspace_id = %(workspace)s
                            ORDER BY position NULLS LAST, id LIMIT %(rows)s)
                       RETURNING position
                   ), marked AS (
                       UPDATE accounts_audithead h
                          SET purged = greatest(h.purged, (SELECT max(position) FROM gone))
                        WHERE h.chain = %(workspace)s AND EXISTS (SELECT FROM gone)
                   ) SELECT count(*) FROM gone""",
                {"workspace": workspace.pk, "rows": EVENTS_AT_ONCE},
            )
            step = cursor.fetchone()[0]
            cursor.execute("ALTER TABLE accounts_auditevent ENABLE TRIGGER audit_rows_stay")
        count += step
        if step < EVENTS_AT_ONCE:
            return count, seal


def _forget_in_admin(
    workspace: Workspace, token_ids: list[int], datasets: list[Dataset], people: list[User]
) -> None:
    """The operators' admin keeps a log of its own, with names in it."""
    for model, ids in (
        (Workspace, [workspace.pk]),
        (Membership, list(workspace.memberships.values_list("pk", flat=True))),
        (Token, token_ids),
        (Dataset, [dataset.pk for dataset in datasets]),
        (User, [user.pk for user in people]),
    ):
        kind = ContentType.objects.get_for_model(model)
        LogEntry.objects.filter(content_type=kind, object_id__in=list(map(str, ids))).delete()


def _lift_limits() -> None:
    """For this transaction: as long as it takes, but no longer for a lock than others can bear."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;"
            f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"
        )
