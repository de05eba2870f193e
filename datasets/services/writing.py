"""Writing and deleting records for the API: parsing the parameters, and the change itself.

Changes are synchronous, one transaction each: all or nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from apperate.accounts.audit import trail
from apperate.database import disk
from apperate.http.parameters import ABSENT
from apperate.kernel.json_text import loads_records
from apperate.kernel.ranges import DATES_NEEDED, Span, parse_date_of_path
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.models import Deletion
from datasets.query import parameters
from datasets.query.parameters import SELECTING
from datasets.records.checking import RecordChecker, Row
from datasets.storage import limits, writes
from datasets.storage.catalog import Metadata
from datasets.storage.writes import Selection
from tokens.rules.permissions import Action

ERRORS_MAX = 100
Pairs = Sequence[tuple[str, str]]


def replaces_duplicates(values: Mapping[str, Any]) -> bool:
    """Whether a record replaces the one with the same unique index. Default: the old one stays."""
    return bool(values.get("overwrite", values.get("duplicateKeyHandling", False)))


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a file is imported. `invalid_max`: more invalid lines than this store nothing; None: no limit."""

    replaces: bool = False
    waits: bool = False
    invalid_max: int | None = None


def parse_ingest_options(pairs: Pairs) -> IngestOptions | Refusal:
    values = parameters.values(pairs, "ingest")
    if isinstance(values, Refusal):
        return values
    return IngestOptions(
        replaces_duplicates(values), values.get("wait", False), values.get("maximumValidationErrors")
    )


def check_records(dataset: Metadata, body: bytes, *, now: datetime) -> list[Row] | Refusal:
    """The rows of a JSON body, or every fault in it with the position of its record."""
    records = loads_records(body)
    if isinstance(records, Refusal):
        return records
    checker = RecordChecker(dataset.schema, now=now)
    rows: list[Row] = []
    errors: list[dict[str, Any]] = []
    for index, record in enumerate(records):
        row = checker.check(record)
        if isinstance(row, Row):
            rows.append(row)
        else:
            errors.append({"record": index, "errors": list(row)})
    if not errors:
        return rows
    return Refusal(
        "invalid-values",
        f"{len(errors):,} of {len(records):,} records do not fit the dataset's schema; nothing was stored.",
        check="body",
        received=f"record {errors[0]['record']}: {errors[0]['errors'][0]}"[:300],
        needed="records with the properties and types of the schema",
        errors=tuple(errors[:ERRORS_MAX]),
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of check_records() with the schema that `dataset` had then."""

    dataset: Metadata
    rows: list[Row] | Refusal


def checked(dataset: Metadata, body: bytes, *, now: datetime) -> Checked:
    """A body's rows, checked before a transaction begins: it may take longer than one may idle."""
    return Checked(dataset, check_records(dataset, body, now=now))


def write_records(
    *, dataset_id: int, body: bytes, replaces: bool, now: datetime, ready: Checked | None = None
) -> int | Refusal:
    """Store the records of a JSON body; returns how many were accepted, including ignored duplicates.

    `ready`: the already checked body; without it, or when the schema has changed since, it is checked here.
    """
    if refusal := disk.shortage():
        return refusal
    known = ready.dataset if ready else None
    with writes.locked_with_usage(dataset_id, known=known) as found:
        if found is None:
            return dataset_gone()
        dataset, before = found
        if ready is None or ready.dataset.version != dataset.version:
            ready = checked(dataset, body, now=now)
        rows = before.refusal() or ready.rows
        if isinstance(rows, Refusal):
            return rows
        written = writes.write(dataset, rows, replaces=replaces, now=now)
        if refusal := limits.settle(dataset.workspace_id, written.bytes, before=before):
            transaction.set_rollback(True)
            return refusal
        return len(rows)


def parse_selection(
    pairs: Pairs, *, key: str | None, subkey: str | None, date: str | None
) -> Selection | Refusal:
    """The records named by /KEY[/SUBKEY[/DATE]] and `from`, `to`. Without a key nothing is selected."""
    if not key:
        return Refusal(
            "invalid-values",
            "Name the key whose records are to be deleted. Deleting a whole dataset is another request.",
            check="query",
            received="no key",
            needed="DELETE /v1/data/WORKSPACE/DATASET/KEY",
        )
    for name, text in pairs:
        if name in SELECTING - parameters.of("delete").keys() and text.lower() not in ABSENT:
            return invalid_value(name, text, "to be left out: a delete knows the path, from and to alone")
    values = parameters.values(pairs, "delete")
    if isinstance(values, Refusal):
        return values
    spans = dict(values)
    if date is not None:
        spans["date"] = parse_date_of_path(date)
        if spans["date"] is None:
            return invalid_value("date", date, DATES_NEEDED)
    bounds = [
        Span(span.start if name != "to" else None, span.end if name != "from" else None)
        for name, span in spans.items()
    ]
    from_at = max((span.start for span in bounds if span.start is not None), default=None)
    to_at = min((span.end for span in bounds if span.end is not None), default=None)
    if from_at is not None and to_at is not None and from_at >= to_at:
        return invalid_value("from", dict(pairs).get("from", date), "a day or moment that is not after to")
    return Selection(key, subkey, from_at, to_at)


def delete_selected(dataset: Metadata, selection: Selection, *, token_id: int | None, now: datetime) -> int:
    """Move the selected records to the trash; returns how many there were. Inside writes.locked()."""
    deletion = Deletion.objects.create(
        dataset_id=dataset.id,
        deleted_at=now,
        token_id=token_id,
        key=selection.key,
        subkey=selection.subkey or "",
    )
    count = writes.delete(dataset, deletion.pk, selection)
    if count:
        deletion.records = count
        deletion.save(update_fields=["records"])
        trail.record(
            "records.delete",
            workspace=dataset.workspace_id,
            by=None,
            now=now,
            target=dataset.name,
            before={"key": selection.key, "subkey": selection.subkey, "records": count},
        )
    else:
        deletion.delete()
    return count


def dataset_gone() -> Refusal:
    return Refusal(
        "not-found",
        "The dataset was deleted a moment ago.",
        check=Action.WRITE,
        needed="a dataset that exists",
    )
