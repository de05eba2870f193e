"""Deleted records of a dataset: listed, restored within 24 hours, then removed for good."""

import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from django.db import transaction
from django.db.models import QuerySet

from apperate.accounts.audit import trail
from apperate.accounts.models import User
from apperate.kernel.json_text import DECODER
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.models import Dataset, Deletion, IngestJob, QueryMark
from datasets.records.checking import RecordChecker, Row
from datasets.services.editing import TRASH_HOURS
from datasets.storage import deletes, file_chunks, job_files, limits, writes
from datasets.storage.catalog import Metadata
from datasets.storage.reservations import staged_name


@dataclass(frozen=True, slots=True)
class Restored:
    """Records that were restored, and those that were not because their unique index is in use again."""

    records: int
    kept: int


@dataclass(frozen=True, slots=True)
class Erased:
    """What was removed for good; or, if very much, what the next purge() removes and is hidden until then."""

    is_done: bool


def deletions_of(dataset: Dataset, *, now: datetime) -> QuerySet[Deletion]:
    """The deletes whose records can still be restored, newest first."""
    since = now - timedelta(hours=TRASH_HOURS)
    return dataset.deletions.filter(deleted_at__gt=since).order_by("-deleted_at", "-pk")


def restore_deletion(*, deletion: Deletion, by: User | None, now: datetime) -> Restored | Refusal:
    """Restore the records of one delete. Records written since under the same index stay."""
    with writes.locked(deletion.dataset_id) as dataset:
        return put_back(dataset, deletion.pk, asked_at=now, by=by, now=now)


def put_back(
    dataset: Metadata | None, deletion_id: int, *, asked_at: datetime, by: User | None, now: datetime
) -> Restored | Refusal:
    """Restore the records of a delete, if that was still possible at `asked_at`. Inside writes.locked()."""
    found = Deletion.objects.select_for_update().filter(pk=deletion_id).first()
    if dataset is None or found is None or found.deleted_at <= asked_at - timedelta(hours=TRASH_HOURS):
        needed = f"a delete of the last {TRASH_HOURS} hours that was not restored yet"
        return invalid_value("deletion", deletion_id, needed)
    misfits, reason = _misfits(dataset, found, now)
    if misfits:
        return Refusal(
            "invalid-values",
            f"{misfits:,} of the records do not fit the schema as it is now; nothing was restored. {reason}",
            check="body",
            received=f"{misfits:,} records",
            needed="the schema that they were written under",
        )
    records, kept = writes.put_back(found.pk, now=now)
    owner = Dataset.objects.select_related("workspace").get(pk=dataset.id)
    trail.record(
        "records.restore",
        workspace=owner.workspace,
        by=by,
        now=now,
        target=owner.name,
        after={"key": found.key, "records": records, "kept": kept},
    )
    found.delete()
    return Restored(records, kept)


def purge(*, now: datetime) -> int:
    """Remove what was deleted a day ago or earlier, and queryId marks unused for a day; how many."""
    before = now - timedelta(hours=TRASH_HOURS)
    count, _ = QueryMark.objects.filter(used_at__lte=before).delete()
    for dataset in Dataset.objects.filter(deleted_at__lte=before):
        with transaction.atomic():
            writes.lift_time_limits()
            locked = Dataset.objects.select_for_update().filter(pk=dataset.pk, deleted_at__lte=before).first()
            if locked is not None:
                remove(locked)
                count += 1
    for deletion in Deletion.objects.filter(deleted_at__lte=before):
        with transaction.atomic():
            writes.lift_time_limits()
            found = Deletion.objects.select_for_update().filter(pk=deletion.pk).first()
            if found is not None:
                writes.forget_deletion(found.pk)
                found.delete()
                count += 1
    return count


def erase_deletion(*, deletion: Deletion, by: User | None, now: datetime) -> Erased | Refusal:
    """Permanently remove what a delete moved to the trash, so that its room is free."""
    with transaction.atomic():
        found = Deletion.objects.select_for_update().filter(pk=deletion.pk).first()
        if found is None:
            return invalid_value("deletion", deletion.pk, "a delete that was neither restored nor erased yet")
        owner = Dataset.objects.select_related("workspace").get(pk=found.dataset_id)
        trail.record(
            "records.erase", workspace=owner.workspace, by=by, now=now, target=owner.name,
            before={"key": found.key, "records": found.records},
        )  # fmt: skip
        if found.records > deletes.RECORDS_MAX:
            found.deleted_at = _beyond_restoring(now)
            found.save(update_fields=["deleted_at"])
            return Erased(is_done=False)
        writes.forget_deletion(found.pk)
        found.delete()
    return Erased(is_done=True)


def erase_dataset(*, dataset: Dataset, by: User | None, now: datetime) -> Erased | Refusal:
    """Permanently remove a deleted dataset and its records; its id and its room are free again."""
    with transaction.atomic():
        deleted = Dataset.objects.select_for_update(of=("self",)).select_related("workspace")
        found = deleted.filter(pk=dataset.pk).exclude(deleted_at=None).first()
        if found is None:
            return invalid_value("dataset", dataset.name, "one that was deleted and not restored since")
        trail.record(
            "dataset.erase", workspace=found.workspace, by=by, now=now, target=found.name,
            before={"name": found.name},
        )  # fmt: skip
        if writes.has_more_than(found.pk, deletes.RECORDS_MAX):
            found.deleted_at = _beyond_restoring(now)
            found.save(update_fields=["deleted_at"])
            return Erased(is_done=False)
        remove(found)
    return Erased(is_done=True)


def _beyond_restoring(now: datetime) -> datetime:
    """A deletion time old enough for the next purge()."""
    return now - timedelta(hours=TRASH_HOURS)


def remove(dataset: Dataset) -> None:
    """Remove a dataset that is locked, its records, and its jobs' files. Inside a transaction."""
    writes.erase([dataset.pk])
    file_chunks.remove_of_dataset(dataset.pk)
    for job in dataset.jobs.exclude(status=IngestJob.Status.INGESTED):  # Their files went with the job.
        limits.unstage(staged_name(job))
        transaction.on_commit(partial(shutil.rmtree, job_files.folder(job), ignore_errors=True))
    dataset.delete()


def _misfits(dataset: Metadata, deletion: Deletion, now: datetime) -> tuple[int, str]:
    """How many of a delete's records the current schema does not accept, and why not the first."""
    checker = RecordChecker(dataset.schema, now=now)
    count, reason = 0, ""
    for text in writes.deleted_texts(deletion.pk):
        checked = checker.check(DECODER.decode(text))
        if not isinstance(checked, Row):
            count, reason = count + 1, reason or checked[0]
    return count, reason
