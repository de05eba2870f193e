"""A file sent to make a dataset from: checked, described, and stored until its sender decides.

    keep(…) -> Upload | Refusal       the file is on disk, nothing in the database
    find(…) -> Upload | None          only for its sender, in the workspace it was sent to
    finish(…) -> IngestJob | Refusal  the dataset and the job that fills it

Abandoned uploads are removed after a day.
"""

import json
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from apperate.accounts.models import User, Workspace
from apperate.kernel.json_text import bad_body, shown
from apperate.kernel.refusals import Refusal, storage_full
from datasets.files.csv_file import InvalidLine, Table
from datasets.files.inference import infer_file
from datasets.files.parsing import open_source
from datasets.jobs import making
from datasets.jobs.loading import with_index
from datasets.jobs.run import is_full
from datasets.models import IngestJob
from datasets.records.schema import PropertyType, Schema, parse_schema
from datasets.services import creating
from datasets.services.writing import IngestOptions
from datasets.storage import job_files, limits

KEPT_SECONDS = 86_400
SAMPLE_CHARS = 80
ID_FORM = re.compile(r"[0-9a-f]{32}")
BODY, FACTS = job_files.BODY, "upload.json"


@dataclass(frozen=True, slots=True)
class Upload:
    """A stored file and what was inferred from it. `sample`: property → its value in the first record."""

    public_id: str
    workspace_id: int
    user_id: int
    name: str
    file_name: str
    size_bytes: int
    rows: int
    unreadable: int
    schema_json: dict[str, Any]
    column_mapping: dict[str, str]
    sample: dict[str, str]

    @property
    def schema(self) -> Schema:
        schema = parse_schema(self.schema_json, self.column_mapping)
        if isinstance(schema, Refusal):
            raise ValueError(f"upload {self.public_id} has an unreadable schema: {schema.detail}")
        return schema


def folder(public_id: str) -> Path:
    return Path(settings.INGEST_DIR) / job_files.UPLOADS / public_id


def keep(
    *, workspace: Workspace, by: User, name: str, file_name: str, chunks: Iterable[bytes], now: datetime
) -> Upload | Refusal:
    """Store a file if it can become a dataset; a refused one leaves nothing behind."""
    remove_old(now=now)
    public_id = secrets.token_hex(16)
    place = folder(public_id)
    room = job_files.FileRoom(workspace.pk)
    if refusal := room.allows(0):
        return refusal
    job_files.make_folder(place)
    try:
        size_bytes = job_files.keep_chunks(place, chunks, room)
        schema = size_bytes if isinstance(size_bytes, Refusal) else infer_file(place / BODY)
        if isinstance(schema, Refusal) or isinstance(size_bytes, Refusal):
            shutil.rmtree(place)
            return schema if isinstance(schema, Refusal) else bad_body("The file cannot be read.")
        rows, unreadable, sample = _counted(place / BODY)
        upload = Upload(
            public_id, workspace.pk, by.pk, name, file_name[:255], size_bytes, rows, unreadable,
            schema.to_json(), schema.column_mapping(), sample,
        )  # fmt: skip
        (place / FACTS).write_text(json.dumps(asdict(upload)), encoding="utf-8")
        if refusal := _stage(upload):
            shutil.rmtree(place)
            return refusal
    except BaseException as error:
        shutil.rmtree(place, ignore_errors=True)
        if is_full(error):
            return storage_full()
        raise
    return upload


def _counted(path: Path) -> tuple[int, int, dict[str, str]]:
    """How many lines are records and how many unreadable, and the values of the first record."""
    rows, unreadable = 0, 0
    sample: dict[str, str] = {}
    source = open_source(path)
    if isinstance(source, Refusal):  # It was readable a moment ago.
        return rows, unreadable, sample
    header = source.header if isinstance(source, Table) else ()
    for _, found in source.lines():
        if isinstance(found, InvalidLine):
            unreadable += 1
            continue
        rows += 1
        if rows == 1:
            record = found if isinstance(found, dict) else dict(zip(header, found, strict=True))
            sample = {
                name: (value if isinstance(value, str) else shown(value))[:SAMPLE_CHARS]
                for name, value in record.items()
            }
    return rows, unreadable, sample


def find(public_id: str, *, workspace: Workspace, by: User) -> Upload | None:
    """The upload, if this person sent it for this workspace and it is still there."""
    if not ID_FORM.fullmatch(public_id):
        return None
    try:
        facts = json.loads((folder(public_id) / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    upload = Upload(**facts)
    return upload if (upload.workspace_id, upload.user_id) == (workspace.pk, by.pk) else None


def finish(
    *,
    upload: Upload,
    workspace: Workspace,
    mapping: Mapping[str, str],
    title: str,
    by: User,
    now: datetime,
    types: Mapping[str, PropertyType] | None = None,
) -> IngestJob | Refusal:
    """Make the dataset with this index and queue the job that fills it; both or neither.

    `types`: property → its type, where it differs from the inferred one. Lines that do not fit are invalid.
    """
    properties = [
        replace(one, type=(types or {}).get(one.name, one.type)) for one in upload.schema.properties
    ]
    schema = with_index(replace(upload.schema, properties=tuple(properties)), mapping)
    if isinstance(schema, Refusal):
        return schema
    dataset = creating.create_dataset(
        workspace=workspace, name=upload.name, schema=schema, by=by, now=now, details={"title": title}
    )
    if isinstance(dataset, Refusal):
        return dataset
    job: IngestJob | Refusal | None = None
    # The job's copy of the file counts instead; counting both would double what will be stored.
    limits.unstage(staged_name(upload.public_id))
    try:
        with (folder(upload.public_id) / BODY).open("rb") as body:
            job = making.create(
                dataset_id=dataset.pk, file=body, options=IngestOptions(), now=now, by=by,
                file_name=upload.file_name,
            )  # fmt: skip
    except FileNotFoundError:
        job = bad_body("The file was removed, because a day has passed.", needed="the file again")
    finally:
        # A large file is copied here, so one transaction around both would hold locks too long.
        if not isinstance(job, IngestJob):
            with transaction.atomic():
                dataset.delete()
            if (folder(upload.public_id) / BODY).exists():
                _stage(upload)
    if isinstance(job, IngestJob):
        discard(upload)
    return job


def discard(upload: Upload) -> None:
    shutil.rmtree(folder(upload.public_id), ignore_errors=True)
    limits.unstage(staged_name(upload.public_id))


def staged_name(public_id: str) -> str:
    return f"upload/{public_id}"


def _stage(upload: Upload) -> Refusal | None:
    """Count the file as the workspace's storage while it exists."""
    size_bytes = (folder(upload.public_id) / BODY).stat().st_size
    return limits.stage(staged_name(upload.public_id), upload.workspace_id, size_bytes)


def remove_old(*, now: datetime) -> None:
    """Remove abandoned uploads."""
    for place in folder("").glob("*"):
        try:
            if now.timestamp() - place.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(place, ignore_errors=True)
                limits.unstage(staged_name(place.name))
        except FileNotFoundError:
            continue
