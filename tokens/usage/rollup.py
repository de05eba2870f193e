"""roll_up(): old counters become coarser: hours after three hours, UTC days after five weeks.

Minutes are for looking at what happens now; each page that sums reads whatever rows there are, so few are
kept. A row stays in its table and its `minute` becomes the beginning of its hour or day, so a sum over whole
days is the same before and after. One statement moves the rows of one day: who reads sees all of them or
their sum, and a crash leaves one of the two.
"""

from datetime import UTC, datetime, timedelta

from django.db import connection, connections
from procrastinate.contrib.django import app

from apperate.database.clock import database_now

DAY = timedelta(days=1)
HOURS_AFTER, DAYS_AFTER = timedelta(hours=3), 35 * DAY
DAYS_EACH_TIME_MAX = 40

# Any row of the day that is not at the beginning of its hour (or day), oldest first: which day is next.
NEXT = """
SELECT minute FROM tokens_usagecounter
 WHERE minute < %(before)s AND minute <> date_trunc(%(unit)s, minute, 'UTC')
 ORDER BY minute LIMIT 1
"""
MOVE = """
WITH moved AS (
    DELETE FROM tokens_usagecounter
     WHERE minute >= %(start)s AND minute < %(end)s AND minute <> date_trunc(%(unit)s, minute, 'UTC')
    RETURNING token_id, dataset_id, operation, outcome, minute, calls, records, credits, core_credits, is_demo
)
INSERT INTO tokens_usagecounter AS u
       (token_id, dataset_id, operation, outcome, minute, calls, records, credits, core_credits, is_demo)
SELECT token_id, dataset_id, operation, outcome, date_trunc(%(unit)s, minute, 'UTC'),
       sum(calls), sum(records), sum(credits), sum(core_credits), bool_or(is_demo)
  FROM moved GROUP BY 1, 2, 3, 4, 5
 ORDER BY 1, 5, 2, 3, 4
ON CONFLICT (token_id, minute, dataset_id, operation, outcome) DO UPDATE
   SET calls = u.calls + excluded.calls, records = u.records + excluded.records,
       credits = u.credits + excluded.credits, core_credits = u.core_credits + excluded.core_credits,
       is_demo = u.is_demo OR excluded.is_demo
"""


def roll_up(*, now: datetime) -> int:
    """Make what is old coarser, at most DAYS_EACH_TIME_MAX days of it; how many days were moved."""
    moved = 0
    this_hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    today = this_hour.replace(hour=0)
    for unit, before in (("hour", this_hour - HOURS_AFTER), ("day", today - DAYS_AFTER)):
        while moved < DAYS_EACH_TIME_MAX:
            with connection.cursor() as cursor:
                cursor.execute(NEXT, {"before": before, "unit": unit})
                found = cursor.fetchone()
                if found is None:
                    break
                start = found[0].astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
                cursor.execute(MOVE, {"start": start, "end": min(start + DAY, before), "unit": unit})
            moved += 1
    return moved


@app.periodic(cron="23 * * * *")
@app.task(name="roll_up_usage", queue="upkeep", queueing_lock="roll_up_usage")
def roll_up_usage(timestamp: int) -> None:
    """Every hour."""
    try:
        roll_up(now=database_now())
    finally:
        connections.close_all()
