"""A database that is away is logged when it goes, once a minute, and when it is back: not once a request."""

import logging

import psycopg
import pytest
from django.db import OperationalError

from apperate.database.outage import Outage

CAUSE = "connection to server failed\nIs it running?"


def test_an_outage_is_a_few_lines_however_many_requests_it_costs(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    with caplog.at_level(logging.WARNING):
        outage.over(at=0)
        for second in range(130):
            outage.note(OperationalError(CAUSE), at=10 + second)
        outage.over(at=150)
        outage.over(at=151)
        outage.note(psycopg.InterfaceError(), at=200)

    assert [record.getMessage() for record in caplog.records] == [
        "the database does not answer error=OperationalError cause=connection to server failed",
        "the database still does not answer seconds=60 failed=61 error=OperationalError "
        "cause=connection to server failed",
        "the database still does not answer seconds=120 failed=121 error=OperationalError "
        "cause=connection to server failed",
        "the database answers again seconds=140 failed=130",
        "the database does not answer error=InterfaceError cause=nothing was said",
    ]
