"""Ingestion jobs as API documents, and waiting for one to end."""

import asyncio
import time
from datetime import datetime
from typing import Any

import simplejson

from apperate.database import pool
from apperate.http.problems import JSON
from apperate.kernel.dates import milliseconds
from apperate.kernel.refusals import Refusal
from datasets.jobs.making import progress
from datasets.models import IngestJob
from datasets.services import writing
from datasets.storage import deletes
from tokens.gate.calls import Answer

WAIT_SECONDS_MAX = 60
WAIT_POLL_SECONDS = 0.05
WAIT_POLL_SECONDS_MAX = 0.5
WAIT_POLL_SHARE = 0.02  # of the time waited so far


def job_url(job: IngestJob) -> str:
    return job_path(job.dataset.workspace.name, job)


def job_path(workspace: str, job: IngestJob) -> str:
    return f"/v1/jobs/{workspace}/ingest/{job.public_id}"


def document(job: IngestJob) -> dict[str, Any]:
    """A job as the API shows it; times in epoch milliseconds."""
    return {
        "jobId": job.public_id,
        "datasetId": job.dataset.name,
        "kind": job.kind,
        "status": job.status,
        "lastGoodStatus": job.last_good_status,
        "progress": progress(job),
        "sizeBytes": job.size_bytes,
        "rowsProcessed": job.rows_done,
        "bytesProcessed": job.bytes_done,
        "lines": job.lines,
        "recordsIngested": job.stored if job.kind == IngestJob.Kind.INGEST else 0,
        "recordsDeleted": job.stored if job.kind == IngestJob.Kind.DELETE else 0,
        "recordsRestored": job.stored if job.kind == IngestJob.Kind.RESTORE else 0,
        "duplicates": job.duplicates,
        "invalid": job.invalid,
        "message": job.message,
        "invalidRecordsLog": f"{job_url(job)}/invalid-records-log",
        "created": _milliseconds(job.created_at),
        "started": _milliseconds(job.started_at),
        "ended": _milliseconds(job.ended_at),
        "cancelRequested": _milliseconds(job.cancel_requested_at),
    }


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else milliseconds(at)


def created_document(job: IngestJob, *, workspace: str, dataset: str) -> dict[str, Any]:
    """The answer to a request that made a job."""
    begun = {
        IngestJob.Kind.INGEST: f"Data upload of {size_text(job.size_bytes)} for {dataset} completed",
        IngestJob.Kind.DELETE: f"more than {deletes.RECORDS_MAX} records are being deleted",
    }
    return {
        "success": True,
        "message": f"{begun[IngestJob.Kind(job.kind)]}, jobId: {job.public_id} has been created",
        "jobId": job.public_id,
        "jobUrl": job_path(workspace, job),
    }


def size_text(size_bytes: int) -> str:
    """579B, 12KB, 3MB: the form older clients expect."""
    for unit in ("B", "KB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f}{unit}"
        size_bytes = round(size_bytes / 1000)
    return f"{size_bytes:.0f}GB"


async def wait_for(job: IngestJob) -> Answer | Refusal | None:
    """The answer for a job that has ended; None when it has not within a minute."""
    sql = "SELECT status, stored, message, refusal_code FROM datasets_ingestjob WHERE id = %(id)s"
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < WAIT_SECONDS_MAX:
        found = await pool.fetch_all(sql, {"id": job.pk})
        if not found:
            return writing.dataset_gone()
        status, stored, message, code = found[0]
        if status == IngestJob.Status.INGESTED:
            text = f"Ingestion job successful, {stored} records ingested"
            document = {"success": True, "message": text, "jobId": job.public_id}
            return Answer(simplejson.dumps(document).encode(), JSON, records=stored, is_free=True)
        if status in IngestJob.ENDED:
            check = "" if code == "internal-error" else "body"  # Our own fault is not the file's.
            return Refusal(code or "invalid-values", message or "The job was cancelled.", check=check)
        # Many may wait for long jobs, but nobody should wait much longer than the job takes.
        await asyncio.sleep(min(max(waited * WAIT_POLL_SHARE, WAIT_POLL_SECONDS), WAIT_POLL_SECONDS_MAX))
    return None
