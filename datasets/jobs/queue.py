"""The queue's tasks: jobs, and maintenance that resumes what a dead worker left behind."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from django.db import connections
from procrastinate import JobContext, RetryStrategy
from procrastinate.contrib.django import app

from apperate.accounts import idempotency
from apperate.accounts.audit import chain, trail
from apperate.accounts.sign_in import ended_sessions, leftovers
from apperate.database.clock import database_now
from apperate.database.outage import UNAVAILABLE
from apperate.database.threads import in_thread
from apperate.observability import metrics, tracing
from datasets.jobs import run
from datasets.models import IngestJob
from datasets.services import trash
from datasets.storage import job_files, recount
from tokens.gate import refusal_log, signed_requests
from tokens.metering import meter
from tokens.rules.token_format import mask_in_text
from tokens.services import forgetting

ENTRY_HOURS = 24
UPKEEP_HOURS = 1
RETRIES_MAX = 20
RETRY_SECONDS = 5
# Workers send a heartbeat every 2 s (settings.py); one silent for this long is dead.
STALLED_SECONDS = 15
logger = logging.getLogger("apperate.audit")


@app.task(
    name="ingest",
    queue="ingest",
    pass_context=True,
    retry=RetryStrategy(max_attempts=RETRIES_MAX, wait=RETRY_SECONDS, retry_exceptions=UNAVAILABLE),
)
def ingest(context: JobContext, job_id: int) -> None:
    """The task that runs one job, unless its dataset was removed meanwhile."""
    job = IngestJob.objects.select_related("dataset").filter(pk=job_id).first()
    if job is None:
        return
    if context.job.attempts > RETRIES_MAX:  # Only a task whose worker died is tried more often.
        run.give_up(job)
    else:
        run.run(job, may_retry=context.job.attempts < RETRIES_MAX)
        count(job)


def count(job: IngestJob) -> None:
    """Add a job that has ended to the figures, and make a span of it."""
    if not job.has_ended or job.ended_at is None or job.started_at is None:
        return
    seconds = (job.ended_at - job.started_at).total_seconds()
    metrics.job(kind=job.kind, status=job.status, seconds=seconds, invalid=job.invalid)
    tracing.begin(mask_in_text)
    tracing.job(kind=job.kind, status=job.status, seconds=seconds, job_id=job.public_id, records=job.stored)
    if job.has_file and job.status == IngestJob.Status.INGESTED:
        metrics.records(job.stored, way="job")


@app.periodic(cron="* * * * * */10")
@app.task(name="retry_stalled", queue="upkeep", queueing_lock="retry_stalled", priority=10)
async def retry_stalled(timestamp: int) -> None:
    """Every ten seconds: requeue the tasks of workers that died; drop old entries."""
    for stalled in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_SECONDS):
        await app.job_manager.retry_job(stalled)
    await app.job_manager.delete_old_jobs(nb_hours=ENTRY_HOURS, include_failed=True)
    await app.job_manager.delete_old_jobs(nb_hours=UPKEEP_HOURS, queue="upkeep", include_failed=True)


@app.periodic(cron="17 * * * *")
@app.task(name="purge_files", queue="upkeep", queueing_lock="purge_files")
async def purge_files(timestamp: int) -> None:
    """Every hour: delete what is past its time, such as files of failed jobs and deleted data."""
    await in_thread(purge)()


class NotPurged(Exception):
    """Makes the queue's entry a failed one, which `manage.py doctor` counts."""


PURGES: Mapping[str, Callable[[datetime], object]] = {
    "files of jobs": lambda now: job_files.purge(now=now),
    "abandoned uploads": lambda now: job_files.purge_uploads(now=now),
    "old jobs": lambda now: job_files.purge_jobs(now=now),
    "deleted data": lambda now: trash.purge(now=now),
    "kept answers": lambda now: idempotency.purge(now=now),
    "signed requests": lambda now: signed_requests.purge(now=now),
    "usage of flushes": lambda now: meter.purge(now=now),
    "refusals": lambda now: refusal_log.purge(now=now),
    "deleted tokens": lambda now: forgetting.purge(now=now),
    "sessions": lambda now: ended_sessions.purge(now=now),
    "limits of signing in": lambda now: leftovers.purge_limits(now=now),
    "invitations": lambda now: leftovers.purge_invitations(now=now),
    "log of the operators' admin": lambda now: leftovers.purge_admin_log(now=now),
    "audit log": lambda _: trail.purge(),
}


def purge() -> None:
    """Run each, whatever becomes of those before it. Raises NotPurged with the names of those that failed."""
    failed = []
    for name, step in PURGES.items():
        try:
            step(database_now())
        except Exception:
            logger.exception("not purged: %s", name)
            failed.append(name)
            connections.close_all()  # It may be in a transaction that cannot go on.
    if failed:
        raise NotPurged(", ".join(failed))


@app.periodic(cron="29 * * * *")
@app.task(name="count_storage", queue="upkeep", queueing_lock="count_storage")
async def count_storage(timestamp: int) -> None:
    """Every hour: recount storage, each workspace once a day. A separate task, because it takes long."""
    await in_thread(recount_storage)()


def recount_storage() -> None:
    recount.upkeep(now=database_now())


@app.periodic(cron="41 4 * * *")
@app.task(name="check_audit_log", queue="upkeep", queueing_lock="check_audit_log")
async def check_audit_log(timestamp: int) -> None:
    """Every night: log an error for audit events that do not match the one before them."""
    await in_thread(report_audit_log)()


def report_audit_log() -> None:
    for found in chain.breaks():
        logger.error("audit log changed workspace_id=%s: %s", found.chain or "none", found.words)
