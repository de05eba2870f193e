"""What was kept for a time is removed, and one step that fails leaves the others their turn."""

import logging
from datetime import datetime, timedelta
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db import connection

from apperate.accounts.models import User, Workspace
from apperate.accounts.sign_in import ended_sessions
from apperate.database.clock import database_now
from datasets.jobs import queue
from datasets.models import IngestJob
from datasets.storage import job_files
from tests.support.factories import DatasetFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("ingest_dir")]


def test_a_step_that_fails_is_named_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    def step(name: str) -> Any:
        def run(now: datetime) -> None:
            ran.append(name)
            if name == "broken":
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1 / 0")

        return run

    monkeypatch.setattr(queue, "PURGES", {name: step(name) for name in ("first", "broken", "last")})
    with caplog.at_level(logging.ERROR), pytest.raises(queue.NotPurged, match=r"^broken$"):
        queue.purge()

    assert ran == ["first", "broken", "last"]
    assert [record.getMessage() for record in caplog.records] == ["not purged: broken"]


def test_every_step_runs_on_the_real_tables() -> None:
    queue.purge()


def test_jobs_are_forgotten_90_days_after_their_end(workspace: Workspace) -> None:
    now = database_now()
    dataset = DatasetFactory(workspace=workspace)

    def job(status: str, days: float | None) -> IngestJob:
        ended_at = None if days is None else now - timedelta(days=days)
        return IngestJob.objects.create(
            dataset=dataset, status=status, ended_at=ended_at, created_at=now - timedelta(days=200)
        )

    kept = [job("INGESTED", 89.9), job("ERROR", 1), job("CREATED", None)]
    for status in ("INGESTED", "ERROR", "CANCELLED"):
        job(status, 90.1)

    assert job_files.purge_jobs(now=now) == 3
    assert sorted(IngestJob.objects.values_list("pk", flat=True)) == sorted(one.pk for one in kept)


def test_sessions_go_when_they_have_expired_with_what_was_known_of_them(owner: User) -> None:
    now = database_now()
    for key, hours in (("gone", -1), ("live", 1)):
        Session.objects.create(session_key=key, session_data="", expire_date=now + timedelta(hours=hours))
        UserSession.objects.create(user=owner, session_key=key, ip="127.0.0.1", user_agent="")
    UserSession.objects.create(user=owner, session_key="signed out", ip="127.0.0.1", user_agent="")

    assert ended_sessions.purge(now=now) == 1
    assert list(Session.objects.values_list("session_key", flat=True)) == ["live"]
    assert list(UserSession.objects.values_list("session_key", flat=True)) == ["live"]
