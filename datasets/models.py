"""Dataset, its records and deleted records, the jobs that fill it, their files, and the bytes all takes."""

import secrets
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from psycopg.types.json import Json

from apperate.accounts.models import CORE, PREMIUM, Workspace
from datasets.records.schema import Schema, parse_schema


class OrderedJSONField(models.JSONField):
    """JSON stored as written: type json, because jsonb loses the order of properties."""

    def db_type(self, connection: Any) -> str:
        return "json"

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        # The parent's Jsonb would lose the order on its way into the column.
        return None if value is None else Json(value)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return super().from_db_value(value, expression, connection) if isinstance(value, str) else value


class DatasetQuerySet(models.QuerySet["Dataset"]):
    def kept(self) -> "DatasetQuerySet":
        """Datasets that are not deleted."""
        return self.filter(deleted_at=None)


class Dataset(models.Model):
    """A schema-checked table with an HTTP API. `name` is its id in URLs, upper-case."""

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(max_length=63)
    title = models.CharField(max_length=200, blank=True, default="", db_default="")
    description = models.TextField(max_length=5_000, blank=True, default="", db_default="")
    source = models.CharField(max_length=500, blank=True, default="", db_default="")
    email = models.EmailField(max_length=254, blank=True, default="", db_default="")
    schema_json = OrderedJSONField()
    # {"key", "subkey", "date"} → property name
    column_mapping = models.JSONField(default=dict, db_default={})
    smart_link_attributes = models.JSONField(default=list, db_default=[])
    credits_per_record = models.PositiveIntegerField(default=0, db_default=0)
    version = models.PositiveIntegerField(default=1, db_default=1)  # of this metadata; reads compare it
    is_wide = models.BooleanField(default=False, db_default=False)  # records spread over shards by key
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    updated_at = models.DateTimeField(default=timezone.now, db_default=Now())
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    deleted_at = models.DateTimeField(null=True)
    # Set by a database trigger to the transaction that last wrote the row (database/changes.py polls it).
    changed_xid = models.BigIntegerField(default=0, db_default=0, editable=False, db_index=True)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="datasets_dataset_name_once"),
            models.CheckConstraint(
                condition=Q(name__regex=r"^[A-Z0-9_]{1,63}$"), name="datasets_dataset_name_form"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def schema(self) -> Schema:
        schema = parse_schema(self.schema_json, self.column_mapping)
        if not isinstance(schema, Schema):
            raise ValueError(f"dataset {self.pk} has an unreadable schema: {schema.detail}")
        return schema

    @staticmethod
    def default_credits_per_record(workspace: Workspace) -> int:
        """CORE and PREMIUM cost one credit per record by default; other workspaces nothing."""
        return 1 if workspace.name in {CORE, PREMIUM} else 0


class Record(models.Model):
    """One record. A migration makes the table (type json, COLLATE "C"); storage/ reads and writes it."""

    pk = models.CompositePrimaryKey("dataset_id", "key", "date", "subkey", "shard")
    dataset_id: Any = models.IntegerField()
    key = models.TextField()
    date = models.DateTimeField()
    subkey = models.TextField(default="")
    shard = models.SmallIntegerField(default=0)
    updated = models.DateTimeField(default=timezone.now)
    data = models.TextField()

    class Meta:
        managed = False
        db_table = "records"

    def __str__(self) -> str:
        return f"{self.dataset_id}/{self.key}/{self.subkey}/{self.date}"


class Deletion(models.Model):
    """One delete of records; they can be restored for 24 hours."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="deletions")
    deleted_at = models.DateTimeField(default=timezone.now, db_default=Now())
    token_id: Any = models.BigIntegerField(null=True)
    key = models.TextField()
    subkey = models.TextField(blank=True, default="", db_default="")
    records = models.BigIntegerField(default=0, db_default=0)

    def __str__(self) -> str:
        return f"{self.records} records of {self.dataset}"


class QueryMark(models.Model):
    """How far a token has read a dataset under one queryId: `since` is where the last complete answer ended.

    `next_since` is where the next one begins once the answer now being paged through is complete.
    """

    token_id: Any = models.BigIntegerField()
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=3)
    since = models.DateTimeField(null=True)
    next_since = models.DateTimeField()
    used_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["token_id", "dataset", "name"], name="datasets_querymark_once")
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.dataset}"


def new_job_id() -> str:
    return secrets.token_hex(16)


class IngestJob(models.Model):
    """Work that takes longer than a request may: importing a file, a large delete, a large restore.

    `selection` says which records a delete selects, or which delete is restored. For these two, `stored`
    counts the records deleted or restored, and `duplicates` those that stayed in the trash.
    """

    class Kind(models.TextChoices):
        INGEST = "INGEST", "Upload"
        DELETE = "DELETE", "Delete"
        RESTORE = "RESTORE", "Restore"

    class Status(models.TextChoices):
        CREATED = "CREATED", "Waiting"
        VALIDATING = "VALIDATING", "Checking"
        PROCESSING = "PROCESSING", "Writing"
        INGESTED = "INGESTED", "Complete"
        ERROR = "ERROR", "Failed"
        CANCELLED = "CANCELLED", "Cancelled"

    RUNNING = (Status.VALIDATING, Status.PROCESSING)
    ENDED = (Status.INGESTED, Status.ERROR, Status.CANCELLED)

    public_id = models.CharField(max_length=32, unique=True, default=new_job_id)
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="jobs")
    kind = models.CharField(max_length=7, choices=Kind.choices, default=Kind.INGEST, db_default=Kind.INGEST)
    selection = models.JSONField(null=True)
    status = models.CharField(
        max_length=10, choices=Status.choices, default=Status.CREATED, db_default=Status.CREATED
    )
    last_good_status = models.CharField(
        max_length=10, choices=Status.choices, default=Status.CREATED, db_default=Status.CREATED
    )
    file_name = models.CharField(max_length=255, blank=True, default="", db_default="")
    size_bytes = models.BigIntegerField(default=0, db_default=0)
    replaces_duplicates = models.BooleanField(default=False, db_default=False)
    invalid_max = models.BigIntegerField(null=True)  # more invalid lines than this fail the job
    lines = models.BigIntegerField(default=0, db_default=0)
    stored = models.BigIntegerField(default=0, db_default=0)
    duplicates = models.BigIntegerField(default=0, db_default=0)
    invalid = models.BigIntegerField(default=0, db_default=0)
    message = models.TextField(blank=True, default="", db_default="")
    refusal_code = models.CharField(max_length=40, blank=True, default="", db_default="")
    token_id: Any = models.BigIntegerField(null=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    # Progress, published about once a second while it runs; says nothing about what is stored.
    rows_done = models.BigIntegerField(default=0, db_default=0)
    bytes_done = models.BigIntegerField(default=0, db_default=0)
    # Each run of the job takes the next number; only the last one may store and end it.
    run_number = models.PositiveIntegerField(default=0, db_default=0)
    cancel_requested_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["dataset", "-created_at"], name="datasets_job_newest_first")]

    def __str__(self) -> str:
        return f"{self.public_id[:8]} {self.status}"

    @property
    def has_ended(self) -> bool:
        return self.status in self.ENDED

    @property
    def has_file(self) -> bool:
        return self.kind == self.Kind.INGEST

    @property
    def title(self) -> str:
        """What the job does, in the words of the pages."""
        if self.kind == self.Kind.INGEST:
            return self.file_name or "Sent through the API"
        return f"{self.get_kind_display()} of the records of {(self.selection or {}).get('key', '')}"


# --- what a workspace has stored; storage/limits.py reads and writes these ----------------------------------


class StorageCounter(models.Model):
    """Part of the bytes that a workspace has stored; the sum of its slots is the total.

    A writer adds to the slot of its connection, so that writers do not wait for each other.
    """

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    slot = models.SmallIntegerField()
    bytes = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "slot"], name="datasets_storagecounter_once")
        ]

    def __str__(self) -> str:
        return f"{self.bytes} bytes of {self.workspace_id}"


class StorageRecount(models.Model):
    """When the counters of a workspace were last compared with its rows; none: never."""

    workspace = models.OneToOneField(Workspace, on_delete=models.CASCADE, related_name="+")
    counted_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.workspace_id} at {self.counted_at}"


class StagedFile(models.Model):
    """A file on disk that the counters include: of a job that waits, runs or failed, or of an upload."""

    name = models.CharField(max_length=40, unique=True)  # "job/" or "upload/" and the public id
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    bytes = models.BigIntegerField()
    staged_at = models.DateTimeField(default=timezone.now, db_default=Now())

    def __str__(self) -> str:
        return f"{self.name}: {self.bytes} bytes"


class FileChunk(models.Model):
    """A part of a file of a job or an upload, kept where every host can read it; storage/file_chunks.py.

    A migration keeps `data` out of the table's pages and uncompressed: the file may be compressed itself.
    """

    pk = models.CompositePrimaryKey("folder", "name", "number")
    folder = models.CharField(max_length=40)  # as a StagedFile is named
    name = models.CharField(max_length=20)
    number = models.BigIntegerField()
    data = models.BinaryField()
    stored_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.folder}/{self.name} {self.number}"


class StorageReservation(models.Model):
    """What a running job is about to store: added to the counters until its transaction ends."""

    job_id: Any = models.BigIntegerField(unique=True)
    run_number = models.PositiveIntegerField()
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    bytes = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.bytes} bytes for job {self.job_id}"
