"""A file sent to make a dataset from: checked, described, and stored until its sender decides.

    keep(…) -> Upload | Refusal       the file is kept, and there is neither dataset nor job
    find(…) -> Upload | None          only for its sender, in the workspace it was sent to
    finish(…) -> IngestJob | Refusal  the dataset and the job that fills it

Abandoned uploads are removed after a day.
"""

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import DatabaseError, transaction

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
from datasets.storage.kept_folders import KeptFolder

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


def kept(public_id: str) -> KeptFolder:
    """The upload's file and its facts, wherever they are."""
    return KeptFolder(staged_name(public_id))


def keep(
    *, workspace: Workspace, by: User, name: str, file_name: str, chunks: Iterable[bytes], now: datetime
) -> Upload | Refusal:
    """Store a file if it can become a dataset; a refused one leaves nothing behind."""
    job_files.purge_uploads(now=now)
    public_id = secrets.token_hex(16)
    room = job_files.FileRoom(workspace.pk)
    if refusal := room.allows(0):
        return refusal
    try:
        with kept(public_id).receiving() as place:
            upload = _received(
                place, chunks, room, public_id=public_id, workspace_id=workspace.pk, user_id=by.pk,
                name=name, file_name=file_name[:255],
            )  # fmt: skip
            if isinstance(upload, Upload):
                (place / FACTS).write_text(json.dumps(asdict(upload)), encoding="utf-8")
                refusal = kept(public_id).share(place, BODY, FACTS)
                upload = refusal or _stage(upload, (place / BODY).stat().st_size) or upload
    except BaseException as error:
        with suppress(DatabaseError):
            kept(public_id).remove()
        if is_full(error):
            return storage_full()
        raise
    if isinstance(upload, Refusal):
        kept(public_id).remove()
    return upload


def _received(
    place: Path, chunks: Iterable[bytes], room: job_files.FileRoom, **facts: Any
) -> Upload | Refusal:
    """Write the file into a folder and look at it; `facts` are those of the Upload that the file has not."""
    size_bytes = job_files.keep_chunks(place, chunks, room)
    if isinstance(size_bytes, Refusal):
        return size_bytes
    schema = infer_file(place / BODY)
    if isinstance(schema, Refusal):
        return schema
    rows, unreadable, sample = _counted(place / BODY)
    return Upload(
        **facts, size_bytes=size_bytes, rows=rows, unreadable=unreadable, schema_json=schema.to_json(),
        column_mapping=schema.column_mapping(), sample=sample,
    )  # fmt: skip


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
    facts = kept(public_id).read(FACTS)
    if facts is None:
        return None
    upload = Upload(**json.loads(facts))
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
    counted_bytes = limits.unstage(staged_name(upload.public_id))
    try:
        with kept(upload.public_id).at_hand(BODY) as place:
            if place is None:
                job = bad_body("The file was removed, because a day has passed.", needed="the file again")
            else:
                with (place / BODY).open("rb") as body:
                    job = making.create(
                        dataset_id=dataset.pk, file=body, options=IngestOptions(), now=now, by=by,
                        file_name=upload.file_name,
                    )  # fmt: skip
    finally:
        # A large file is copied here, so one transaction around both would hold locks too long.
        if not isinstance(job, IngestJob):
            with transaction.atomic():
                dataset.delete()
            if counted_bytes and kept(upload.public_id).has(BODY):
                _stage(upload, counted_bytes)
    if isinstance(job, IngestJob):
        discard(upload)
    return job


def discard(upload: Upload) -> None:
    kept(upload.public_id).remove()
    limits.unstage(staged_name(upload.public_id))


def staged_name(public_id: str) -> str:
    return f"upload/{public_id}"


def _stage(upload: Upload, size_bytes: int) -> Refusal | None:
    """Count the file as the workspace's storage while it exists."""
    return limits.stage(staged_name(upload.public_id), upload.workspace_id, size_bytes)
