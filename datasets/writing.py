"""Writing and deleting records for the API: what the parameters mean, and the change itself.

The changes are synchronous, each one transaction: all or nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apperate.refusals import Refusal, invalid_value
from datasets import store
from datasets.catalog import Metadata
from datasets.json_text import loads_records
from datasets.models import Deletion
from datasets.query import ABSENT, SELECTING, parse_flag
from datasets.ranges import DATES_NEEDED, Span, parse_day_or_moment
from datasets.records import RecordChecker, Row
from tokens.permissions import Action

ERRORS_MAX = 100
DELETE_BOUNDS = frozenset({"from", "to"})
HANDLINGS = {"replace": True, "true": True, "ignore": False, "false": False}


def present(parameters: Any, name: str) -> str | None:
    """A parameter's value; None when it is absent, as clients say that in several ways."""
    value: str | None = parameters.get(name)
    return None if value is None or value.lower() in ABSENT else value


def parse_duplicate_handling(parameters: Any) -> bool | Refusal:
    """Whether a record replaces the one with the same unique index. Default: the old one stays."""
    overwrite = present(parameters, "overwrite")
    if overwrite is not None:
        parsed = parse_flag(overwrite)
        return invalid_value("overwrite", overwrite, "true or false") if parsed is None else parsed
    handling = present(parameters, "duplicateKeyHandling")
    if handling is None:
        return False
    replaces = HANDLINGS.get(handling.lower())
    return (
        invalid_value("duplicateKeyHandling", handling, "replace or ignore") if replaces is None else replaces
    )


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a file is taken in. `invalid_max`: more invalid lines than this store nothing; None: any number."""

    replaces: bool = False
    waits: bool = False
    invalid_max: int | None = None


def parse_ingest_options(parameters: Any) -> IngestOptions | Refusal:
    replaces = parse_duplicate_handling(parameters)
    if isinstance(replaces, Refusal):
        return replaces
    wait = present(parameters, "wait")
    waits = parse_flag(wait) if wait is not None else False
    if waits is None:
        return invalid_value("wait", wait, "true or false")
    text = present(parameters, "maximumValidationErrors")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 12):
        return invalid_value("maximumValidationErrors", text, "a whole number from 0")
    return IngestOptions(replaces, waits, None if text is None else int(text))


def check_records(dataset: Metadata, body: bytes, *, now: datetime) -> list[Row] | Refusal:
    """The rows of a JSON body, or every fault in it by the position of its record."""
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


def write_records(*, dataset_id: int, body: bytes, replaces: bool, now: datetime) -> int | Refusal:
    """Store the records of a JSON body; how many were accepted, ignored duplicates included."""
    with store.locked(dataset_id) as dataset:
        if dataset is None:
            return dataset_gone()
        rows = check_records(dataset, body, now=now)
        if isinstance(rows, Refusal):
            return rows
        store.write(dataset, rows, replaces=replaces, now=now)
        return len(rows)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records a delete means; the time span is half-open."""

    key: str
    subkey: str | None = None
    from_at: datetime | None = None
    to_at: datetime | None = None


def parse_selection(
    parameters: Any, *, key: str | None, subkey: str | None, date: str | None
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
    texts: dict[str, str] = {} if date is None else {"date": date}
    for name, values in parameters.lists():
        if name in SELECTING - DELETE_BOUNDS and present(parameters, name) is not None:
            return invalid_value(
                name, values[-1], "to be left out: a delete knows the path, from and to alone"
            )
        if name in DELETE_BOUNDS:
            if len(set(values)) > 1:
                return invalid_value(name, " and ".join(values), "one value")
            if (text := present(parameters, name)) is not None:
                texts[name] = text
    bounds: list[Span] = []
    for name, text in texts.items():
        span = parse_day_or_moment(text)
        if span is None:
            return invalid_value(name, text, DATES_NEEDED)
        bounds.append(Span(span.start if name != "to" else None, span.end if name != "from" else None))
    from_at = max((span.start for span in bounds if span.start is not None), default=None)
    to_at = min((span.end for span in bounds if span.end is not None), default=None)
    if from_at is not None and to_at is not None and from_at >= to_at:
        return invalid_value("from", texts.get("from", date), "a day or moment that is not after to")
    return Selection(key, subkey, from_at, to_at)


def delete_records(
    *, dataset_id: int, selection: Selection, token_id: int | None, now: datetime
) -> int | Refusal:
    """Move the selected records to the trash; how many there were."""
    with store.locked(dataset_id) as dataset:
        if dataset is None:
            return dataset_gone()
        deletion = Deletion.objects.create(
            dataset_id=dataset_id,
            deleted_at=now,
            token_id=token_id,
            key=selection.key,
            subkey=selection.subkey or "",
        )
        count = store.delete(
            dataset,
            deletion.pk,
            key=selection.key,
            subkey=selection.subkey,
            from_at=selection.from_at,
            to_at=selection.to_at,
        )
        if count:
            deletion.records = count
            deletion.save(update_fields=["records"])
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
