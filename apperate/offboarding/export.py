"""Everything of a workspace in one zip, in the formats of docs/operating.md, "A workspace that leaves".

    write(workspace, file, now=…) -> int      the number of records; the file need not be seekable

All of it is read in one transaction, as it was at one moment, in constant memory. No value of a token and no
secret is in it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

from django.db import connection, transaction

from apperate.accounts.models import AuditEvent, Workspace
from apperate.kernel.version import VERSION
from apperate.team import audit_log
from datasets.models import Dataset, IngestJob
from datasets.storage import whole
from tokens.api.documents import moment, token_document
from tokens.models import TokenRefusal, UsageCounter

FORMAT = 1
LEVEL = 3
ROWS_AT_ONCE = 1_000


def write(workspace: Workspace, file: IO[bytes], *, now: datetime) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
        with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=LEVEL) as archive:
            archived = Archive(archive)
            archived.add_document("workspace.json", workspace_document(workspace))
            archived.add_document("members.json", list(members(workspace)))
            archived.add_document("invitations.json", list(invitations(workspace)))
            archived.add_document("tokens.json", list(tokens(workspace, now=now)))
            records = sum(add_dataset(archived, dataset) for dataset in workspace.datasets.order_by("name"))
            archived.add_lines("jobs.ndjson", map(text_of, jobs(workspace)))
            archived.add_lines("usage.ndjson", map(text_of, usage(workspace)))
            archived.add_lines("refusals.ndjson", map(text_of, refusals(workspace)))
            archived.add("audit-log.csv", audit(workspace))
            archived.add_document(
                "manifest.json",
                {
                    "format": FORMAT, "version": VERSION, "workspace": workspace.name,
                    "exportedAt": moment(now), "files": list(archived.files),
                },
            )  # fmt: skip
    return records


class Archive:
    """A zip in the making, and what is in it so far: name, lines or rows, and digest of each file."""

    def __init__(self, archive: ZipFile) -> None:
        self.archive = archive
        self.files: list[dict[str, Any]] = []

    def add(self, name: str, parts: Iterable[bytes]) -> int:
        """A file written part by part; returns how many parts there were."""
        digest, count = hashlib.sha256(), 0
        # Sizes are not known in advance: more than 4 GB must fit.
        with self.archive.open(name, "w", force_zip64=True) as file:
            for part in parts:
                file.write(part)
                digest.update(part)
                count += 1
        self.files.append({"name": name, "rows": count, "sha256": digest.hexdigest()})
        return count

    def add_document(self, name: str, document: Any) -> None:
        text = json.dumps(document, ensure_ascii=False, indent=2)
        self.add(name, [f"{text}\n".encode()])

    def add_lines(self, name: str, lines: Iterable[str]) -> int:
        return self.add(name, (f"{line}\n".encode() for line in lines))


def text_of(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False)


def workspace_document(workspace: Workspace) -> dict[str, Any]:
    webhook = getattr(workspace, "webhook", None)
    return {
        "name": workspace.name,
        "title": workspace.title,
        "plan": workspace.plan,
        "createdAt": moment(workspace.created_at),
        "isLegacy": workspace.is_legacy,
        "hasPremium": workspace.has_premium,
        "allowsSecretInBrowser": workspace.allows_secret_in_browser,
        "requiresSecondFactor": workspace.requires_second_factor,
        "webhook": webhook and {"url": webhook.url, "createdAt": moment(webhook.created_at)},
    }


def members(workspace: Workspace) -> Iterator[dict[str, Any]]:
    for one in workspace.memberships.select_related("user").order_by("pk"):
        yield {
            "email": one.user.email, "name": one.user.name, "role": one.role,
            "joinedAt": moment(one.created_at),
        }  # fmt: skip


def invitations(workspace: Workspace) -> Iterator[dict[str, Any]]:
    for one in workspace.invitations.order_by("pk"):
        yield {
            "email": one.email, "role": one.role, "createdAt": moment(one.created_at),
            "expiresAt": moment(one.expires_at), "acceptedAt": moment(one.accepted_at),
            "withdrawnAt": moment(one.withdrawn_at),
        }  # fmt: skip


def tokens(workspace: Workspace, *, now: datetime) -> Iterator[dict[str, Any]]:
    """The Token objects of the API without their values, deleted ones included."""
    names = dict(workspace.datasets.kept().values_list("pk", "name"))
    for token in workspace.tokens.oldest_first().with_versions():
        document = token_document(token, names, now=now)
        del document["token"]
        yield document | {
            "disabledAt": moment(token.disabled_at), "deletedAt": moment(token.deleted_at),
            "creditAlerts": [
                {"month": f"{one.month:%Y-%m}", "percent": one.percent, "reachedAt": moment(one.reached_at)}
                for one in token.credit_alerts.order_by("reached_at")
            ],
        }  # fmt: skip


def add_dataset(archived: Archive, dataset: Dataset) -> int:
    folder = f"datasets/{dataset.name}"
    archived.add_document(
        f"{folder}/schema.json",
        {
            "id": dataset.name, "name": dataset.title, "description": dataset.description,
            "source": dataset.source, "email": dataset.email, "creditsPerRecord": dataset.credits_per_record,
            "schema": dataset.schema_json, "columnMapping": dataset.column_mapping,
            "smartLinkAttributes": dataset.smart_link_attributes, "createdAt": moment(dataset.created_at),
            "updatedAt": moment(dataset.updated_at), "deletedAt": moment(dataset.deleted_at),
        },
    )  # fmt: skip
    count = archived.add_lines(f"{folder}/records.ndjson", whole.texts(dataset.pk))
    if dataset.deletions.exists():
        archived.add_lines(f"{folder}/deleted.ndjson", whole.texts(dataset.pk, deleted=True))
    return count


def jobs(workspace: Workspace) -> Iterator[dict[str, Any]]:
    found = IngestJob.objects.filter(dataset__workspace=workspace).select_related("dataset").order_by("pk")
    for job in found.iterator(ROWS_AT_ONCE):
        yield {
            "jobId": job.public_id, "dataset": job.dataset.name, "kind": job.kind, "status": job.status,
            "fileName": job.file_name, "sizeBytes": job.size_bytes, "lines": job.lines, "stored": job.stored,
            "duplicates": job.duplicates, "invalid": job.invalid, "message": job.message,
            "createdAt": moment(job.created_at), "endedAt": moment(job.ended_at),
        }  # fmt: skip


def usage(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """What its tokens used. A row is of the minute, hour or day that begins at `at`."""
    ids, names = of_tokens(workspace), dict(workspace.datasets.values_list("pk", "name"))
    found = UsageCounter.objects.filter(token_id__in=list(ids)).order_by("minute", "pk")
    for row in found.iterator(ROWS_AT_ONCE):
        yield {
            "at": moment(row.minute), "token": ids[row.token_id], "dataset": names.get(row.dataset_id),
            "operation": row.operation, "outcome": row.outcome, "calls": row.calls, "records": row.records,
            "credits": row.credits, "coreCredits": row.core_credits, "isDemo": row.is_demo,
        }  # fmt: skip


def refusals(workspace: Workspace) -> Iterator[dict[str, Any]]:
    ids, names = of_tokens(workspace), dict(workspace.datasets.values_list("pk", "name"))
    found = TokenRefusal.objects.filter(token_id__in=list(ids)).order_by("first_at", "pk")
    for row in found.iterator(ROWS_AT_ONCE):
        yield {
            "token": ids[row.token_id], "code": row.code, "dataset": names.get(row.dataset_id),
            "site": row.site, "calls": row.calls, "firstAt": moment(row.first_at),
            "lastAt": moment(row.last_at),
        }  # fmt: skip


def of_tokens(workspace: Workspace) -> dict[int, str]:
    """id → public id."""
    return dict(workspace.tokens.values_list("pk", "public_id"))


def audit(workspace: Workspace) -> Iterator[bytes]:
    """The events as the CSV of the audit log's page has them, oldest first, with their seals."""
    yield audit_log.csv_text([audit_log.COLUMNS])
    found = AuditEvent.objects.filter(workspace=workspace).order_by("position", "pk")
    for event in found.iterator(ROWS_AT_ONCE):
        yield audit_log.csv_text([audit_log.csv_row(event)])
