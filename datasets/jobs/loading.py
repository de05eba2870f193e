"""load_file(): loads a local file in one transaction, together with its dataset."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from apperate.accounts.models import User, Workspace
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.files import packed
from datasets.files.inference import infer_file
from datasets.jobs import making
from datasets.jobs.run import run
from datasets.models import Dataset, IngestJob
from datasets.records.schema import Schema, dataset_id, parse_schema
from datasets.services import creating
from datasets.services.writing import IngestOptions
from datasets.storage import job_files, writes


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of loading a file. `is_new`: its dataset was made for it."""

    dataset: Dataset
    job: IngestJob
    is_new: bool


def load_file(
    *,
    workspace: Workspace,
    name: str,
    path: Path,
    now: datetime,
    mapping: Mapping[str, str] | None = None,
    replaces: bool = False,
    by: User | None = None,
    schema: Schema | None = None,
    details: Mapping[str, Any] | None = None,
) -> Loaded | Refusal:
    """Load a CSV, JSON or JSON-lines file, gzipped or not; a missing dataset is made.

    A new dataset's schema is inferred unless given; `mapping` chooses its index, role → property. All or
    nothing: after a Refusal there is no new dataset, record or job. Raises OSError.
    """
    stored_name = dataset_id(name)
    if isinstance(stored_name, Refusal):
        return stored_name
    with plain_file(path) as plain, transaction.atomic():
        if isinstance(plain, Refusal):
            return plain
        writes.lift_time_limits()  # Reading a large file takes long.
        present = workspace.datasets.kept().filter(name=stored_name).first()
        dataset: Dataset | Refusal
        if present is not None:
            dataset = _other_index(present, mapping or {}) or present
        else:
            found = schema or infer_file(plain)
            if mapping and not isinstance(found, Refusal):
                found = with_index(found, _completed(mapping, found))
            if isinstance(found, Refusal):
                return found
            dataset = creating.create_dataset(
                workspace=workspace, name=stored_name, schema=found, by=by, now=now, details=details
            )
        if isinstance(dataset, Refusal):
            return dataset
        job = _run_job(dataset, plain, path.name, replaces=replaces, by=by, now=now)
        if isinstance(job, Refusal):
            transaction.set_rollback(True)
            return job
    return Loaded(dataset, job, present is None)


def _run_job(
    dataset: Dataset, plain: Path, file_name: str, *, replaces: bool, by: User | None, now: datetime
) -> IngestJob | Refusal:
    """A job that ended well, or why it did not."""
    with plain.open("rb") as file:
        job = making.create(
            dataset_id=dataset.pk, file=file, options=IngestOptions(replaces=replaces), now=now, by=by,
            file_name=file_name, is_queued=False,
        )  # fmt: skip
    if isinstance(job, Refusal):
        return job
    run(job, is_watched=False)
    if job.status == IngestJob.Status.INGESTED:
        return job
    job_files.kept(job).remove()
    return Refusal("invalid-values", job.message, check="body")


def with_index(schema: Schema, mapping: Mapping[str, str]) -> Schema | Refusal:
    """An inferred schema with these properties as its index instead of the inferred ones.

    `mapping`: role → property name. Only index properties are required.
    """
    return parse_schema(schema.to_json() | {"required": []}, dict(mapping))


def _completed(mapping: Mapping[str, str], inferred: Schema) -> dict[str, str]:
    """The chosen roles, and inferred ones that go with them: a subkey belongs to its key."""
    chosen = set(mapping.values())
    kept = {
        role: name
        for role, name in inferred.column_mapping().items()
        if name not in chosen and (role != "subkey" or "key" not in mapping)
    }
    return kept | dict(mapping)


def _other_index(dataset: Dataset, mapping: Mapping[str, str]) -> Refusal | None:
    """Why a file cannot be loaded with this index: the dataset has another one."""
    for role, name in mapping.items():
        present = dataset.column_mapping.get(role)
        if present != name:
            has = f"{role}={present}" if present else f"no {role}"
            return invalid_value(role, name, f"{present or 'none'}, because {dataset.name} has {has} already")
    return None


@contextmanager
def plain_file(path: Path) -> Iterator[Path | Refusal]:
    """The file itself, or its unzipped content, with the limits of an upload. Raises OSError."""
    if not packed.is_gzip(path):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="apperate-load-") as plain:
        place = Path(plain.name)
        yield packed.unpack(path, place, bytes_max=settings.UPLOAD_BYTES_MAX) or place
