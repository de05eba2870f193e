"""The time that decides: the database's, so that no web host's clock can widen a limit."""

from datetime import UTC, datetime

from django.db import connection


def database_now() -> datetime:
    """The database's time, aware, in UTC. One query."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0].astimezone(UTC)


def month_of(now: datetime) -> datetime:
    """The first moment of the UTC month: the window of the credit limit."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(now: datetime) -> datetime:
    """When the credit window ends and the next begins."""
    start = month_of(now)
    return (
        start.replace(year=start.year + 1, month=1)
        if start.month == 12
        else start.replace(month=start.month + 1)
    )
