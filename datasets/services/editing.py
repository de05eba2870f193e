"""Changing an existing dataset: its texts, its schema, its name; deleting and restoring it.

Each function is one transaction with its audit row, and increments the dataset's version, so that no reader
answers from outdated metadata. A schema that stored records would break is refused with their number.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F

from apperate.accounts.audit import trail
from apperate.accounts.models import User, Workspace
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.models import Dataset, IngestJob
from datasets.records.changes import SchemaChanges, schema_changes
from datasets.records.schema import Schema, dataset_id, parse_schema
from datasets.services.creating import TEXT_MAX, checked_details, name_taken
from datasets.storage.stored_checks import Rule, count_breaking, rules_of

TRASH_HOURS = 24
CHECK_SECONDS = 4.0
RETRY_SECONDS = 5
EDITABLE = (*TEXT_MAX, "schema", "columnMapping", "smartLinkAttributes", "datasetId")


def edit_from_document(
    *, dataset: Dataset, document: Any, by: User | None, now: datetime
) -> Dataset | Refusal:
    """PATCH /v1/datasets/WS/ID: `{"dataset": {…}}` with the changes; the rest stays."""
    body = document.get("dataset", document) if isinstance(document, dict) else None
    if not isinstance(body, dict):
        return invalid_value("dataset", type(document).__name__, 'an object: {"dataset": {…}}', check="body")
    if not set(body) & set(EDITABLE):
        return invalid_value("dataset", "nothing to change", f"one of {', '.join(EDITABLE)}", check="body")
    named = body.get("datasetId", dataset.name)
    if not isinstance(named, str) or named.upper() != dataset.name:
        needed = f"{dataset.name}; PUT /v1/datasets/WORKSPACE/ID/NEWID gives another id"
        return invalid_value("datasetId", named, needed, check="body")
    schema = None
    if "schema" in body or "columnMapping" in body:
        given = body.get("schema") or dataset.schema_json
        parsed = parse_schema(given, body.get("columnMapping") or dataset.column_mapping)
        if isinstance(parsed, Refusal):
            return parsed
        schema = parsed
    details = {name: body[name] or "" for name in TEXT_MAX if name in body}
    if "smartLinkAttributes" in body:
        details["smart_link_attributes"] = [] if (given := body["smartLinkAttributes"]) is None else given
    return edit_dataset(dataset=dataset, details=details, schema=schema, by=by, now=now)


def edit_dataset(
    *,
    dataset: Dataset,
    details: Mapping[str, Any] | None = None,
    schema: Schema | None = None,
    by: User | None,
    now: datetime,
) -> Dataset | Refusal:
    """Change the texts in `details` and, if given, the schema: all or nothing."""
    texts = checked_details(details or {}, only_given=True)
    if isinstance(texts, Refusal):
        return texts
    with _held(dataset) as current:
        if current is None:
            return _not_held(dataset)
        before = {name: getattr(current, name) for name in texts}
        if schema is not None:
            refusal = _schema_fault(current, schema)
            if refusal is not None:
                return refusal
            before |= {"schema": current.schema_json}
            current.schema_json, current.column_mapping = schema.to_json(), schema.column_mapping()
        for name, text in texts.items():
            setattr(current, name, text)
        after = texts | ({"schema": current.schema_json} if schema is not None else {})
        _save(current, "dataset.edit", by=by, now=now, before=before, after=after)
        return current


def _schema_fault(dataset: Dataset, schema: Schema) -> Refusal | None:
    """Why stored records do not allow this schema, with how many break each property."""
    changes = schema_changes(dataset.schema, schema)
    if isinstance(changes, Refusal):
        return changes
    rules = _rules(changes, schema)
    if not rules:
        return None
    counted = count_breaking(
        table="records", column="dataset_id", owner=dataset.pk, rules=rules, seconds=CHECK_SECONDS
    )
    if counted is None:
        return Refusal(
            "query-too-slow",
            f"The stored records could not be checked against the new schema within {CHECK_SECONDS:.0f} "
            "seconds; nothing was changed.",
            check="body",
            needed="a change that no record can break: a new property that may be null, or a wider type",
        )
    total, counts = counted
    broken = [(rule, count) for rule, count in zip(rules, counts, strict=True) if count]
    if not broken:
        return None
    listed = tuple({"property": rule.name, "records": count, "reason": rule.reason} for rule, count in broken)
    first, count = broken[0]
    return Refusal(
        "invalid-values",
        f"{count:,} of {total:,} stored records do not fit the new schema: each {first.reason}. "
        "Nothing was changed.",
        check="body",
        received=f"{first.name}: {count:,} records",
        needed="a schema that every stored record fits, or other records first",
        errors=listed,
    )


def _rules(changes: SchemaChanges, schema: Schema) -> list[Rule]:
    """What stored records must be checked for: nothing where the schema was only relaxed."""
    names = [*changes.removed, *changes.tightened]
    names += [name for name in changes.added if not getattr(schema.get(name), "nullable", True)]
    return [rule for name in names for rule in rules_of(schema.get(name), name)]


def rename_dataset(*, dataset: Dataset, name: str, by: User | None, now: datetime) -> Dataset | Refusal:
    """Give a dataset another id; tokens keep their grants, and the old id is free at once."""
    stored_name = dataset_id(name)
    if isinstance(stored_name, Refusal):
        return stored_name
    with _held(dataset) as current:
        if current is None:
            return _not_held(dataset)
        before = current.name
        current.name = stored_name
        try:
            with transaction.atomic():
                _save(
                    current,
                    "dataset.rename",
                    by=by,
                    now=now,
                    before={"name": before},
                    after={"name": stored_name},
                )
        except IntegrityError:
            return name_taken(current.workspace, stored_name)
        return current


def delete_dataset(*, dataset: Dataset, by: User | None, now: datetime) -> Dataset | Refusal:
    """Delete a dataset; restore_dataset() can bring it back within 24 hours."""
    with _held(dataset) as current:
        if current is None:
            return _not_held(dataset)
        current.deleted_at = now
        _save(current, "dataset.delete", by=by, now=now, before={"name": current.name}, after=None)
        return current


def restore_dataset(*, dataset: Dataset, by: User | None, now: datetime) -> Dataset | Refusal:
    """Restore a deleted dataset unchanged, with its records and grants."""
    with transaction.atomic():
        restorable = deleted_datasets(dataset.workspace, now=now).select_for_update(of=("self",))
        current = restorable.filter(pk=dataset.pk).first()
        if current is None:
            return invalid_value(
                "dataset", dataset.name, f"one that was deleted within the last {TRASH_HOURS} hours"
            )
        workspace = Workspace.objects.select_for_update().get(pk=current.workspace_id)
        if workspace.datasets.kept().count() >= workspace.limits.datasets_max:
            return Refusal(
                "plan-required",
                f"The {workspace.limits.title} plan has room for {workspace.limits.datasets_max:,} datasets.",
                needed="fewer datasets, or a larger plan",
            )
        current.deleted_at = None
        _save(current, "dataset.restore", by=by, now=now, before=None, after={"name": current.name})
        return current


def deleted_datasets(workspace: Workspace, *, now: datetime) -> Any:
    """The datasets that restore_dataset() can still bring back, newest deletion first."""
    since = now - timedelta(hours=TRASH_HOURS)
    return workspace.datasets.filter(deleted_at__gt=since).order_by("-deleted_at")


@contextmanager
def _held(dataset: Dataset) -> Iterator[Dataset | None]:
    """A transaction that locks the dataset against writers; None when it is gone or stays locked."""
    with transaction.atomic():
        kept = Dataset.objects.kept().select_related("workspace").select_for_update(of=("self",))
        try:
            with transaction.atomic():
                current = kept.filter(pk=dataset.pk).first()
        except OperationalError as error:
            if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise
            current = None
        yield current


def _save(
    dataset: Dataset,
    action: str,
    *,
    by: User | None,
    now: datetime,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    name = dataset.name
    dataset.updated_at = now
    dataset.version = F("version") + 1
    dataset.save()
    dataset.refresh_from_db(fields=["version"])
    trail.record(action, workspace=dataset.workspace, by=by, now=now, target=name, before=before, after=after)


def _not_held(dataset: Dataset) -> Refusal:
    """Why _held() gave None: the dataset is gone, or a job or a request is writing to it."""
    if not Dataset.objects.kept().filter(pk=dataset.pk).exists():
        return Refusal(
            "not-found", f"The dataset {dataset.name} was deleted a moment ago.", needed="one that exists"
        )
    running = IngestJob.objects.filter(dataset=dataset).exclude(status__in=IngestJob.ENDED)
    job = running.order_by("pk").first()
    writer = f"The job {job.public_id}" if job else "Another request"
    return Refusal(
        "unavailable",
        f"{writer} is writing to {dataset.name}, so nothing was changed.",
        check="body",
        needed="the same request once it has ended",
        retry_after_seconds=RETRY_SECONDS,
    )
