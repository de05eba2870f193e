"""The work beside the requests: whether somebody does it, and whether it keeps up."""

from django.conf import settings
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker

from apperate.database.clock import database_now
from apperate.doctor.findings import FAIL, OK, WARN, Finding
from tokens.usage import rollup

HEARTBEAT_SECONDS_MAX = 30
WAITING_SECONDS_MAX = 60


def background_work() -> Finding:
    """Is a worker alive, and is nothing waiting for long?"""
    now, subject = database_now(), "Background work"
    beats = ProcrastinateWorker.objects.values_list("last_heartbeat", flat=True)
    alive = sum((now - beat).total_seconds() <= HEARTBEAT_SECONDS_MAX for beat in beats)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FROM procrastinate_jobs j JOIN procrastinate_events e ON e.job_id = j.id
                WHERE j.status = 'todo' AND e.type = 'deferred' AND e.at < now() - make_interval(secs => %s)
                  AND (j.scheduled_at IS NULL OR j.scheduled_at <= now())""",
            [WAITING_SECONDS_MAX],
        )
        waiting = cursor.fetchone()[0]
    failed = ProcrastinateJob.objects.filter(status="failed").count()
    detail = f"{alive} workers alive, {waiting} jobs waiting for more than a minute, {failed} failed."
    if waiting:
        return Finding(FAIL, subject, detail, "Start `manage.py up`, or `manage.py procrastinate worker`.")
    if not alive or failed:
        return Finding(WARN, subject, detail, "`manage.py up` starts a worker; the log has the faults.")
    if alive > 1 and settings.UPLOADS == "folder":
        fault = "If they are on several hosts, each fails the jobs whose file another one received."
        return Finding(WARN, subject, f"{detail} {fault}", "Then set APPERATE_UPLOADS=database on each.")
    return Finding(OK, subject, detail)


def usage_counters() -> Finding:
    """Do old counters become hours and days, as they should every hour?"""
    oldest = rollup.behind(now=database_now())
    if oldest is None:
        return Finding(OK, "Usage counters", "Old ones were made coarser.")
    detail = f"Those of {oldest:%Y-%m-%d} still count by the minute: pages that sum them become slow."
    return Finding(WARN, "Usage counters", detail, "The log of the worker says why roll_up_usage fails.")
