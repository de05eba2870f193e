"""roll_up(): makes old counters coarser: hours after three hours, UTC days after five weeks.

Minutes show what happens now; pages sum whatever rows there are, so few are kept. A row stays in its table
and its `minute` becomes the start of its hour or day, so sums over whole days do not change. A statement
moves a limited number of rows of one day: readers see each of them either by itself or in its sum, even
after a crash.
"""

from datetime import UTC, datetime, timedelta

from django.db import connection, connections
from procrastinate.contrib.django import app

from apperate.database.clock import database_now

DAY = timedelta(days=1)
HOURS_AFTER, DAYS_AFTER = timedelta(hours=3), 35 * DAY
# A step takes about 0.3 s of the 5 s that a statement may take; an hourly run can move four million rows.
ROWS_EACH_STEP = 20_000
STEPS_EACH_TIME_MAX = 200
BEHIND_AFTER = 2 * DAY

# Any row of a day that is not yet at the start of its hour (or day), oldest first: the next day to move.
NEXT = """
SELECT minute FROM tokens_usagecounter
 WHERE minute < %(before)s AND minute <> date_trunc(%(unit)s, minute, 'UTC')
 ORDER BY minute LIMIT 1
"""
MOVE = """
WITH moved AS (
    DELETE FROM tokens_usagecounter
     WHERE ctid = ANY (ARRAY(
           SELECT ctid FROM tokens_usagecounter
            WHERE minute >= %(start)s AND minute < %(end)s AND minute <> date_trunc(%(unit)s, minute, 'UTC')
            ORDER BY minute LIMIT %(rows)s FOR UPDATE))
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
    """Make old counters coarser, in at most STEPS_EACH_TIME_MAX steps; how many there were."""
    steps = 0
    this_hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    today = this_hour.replace(hour=0)
    for unit, before in (("hour", this_hour - HOURS_AFTER), ("day", today - DAYS_AFTER)):
        while steps < STEPS_EACH_TIME_MAX:
            with connection.cursor() as cursor:
                cursor.execute(NEXT, {"before": before, "unit": unit})
                found = cursor.fetchone()
                if found is None:
                    break
                start = found[0].astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
                day = {"start": start, "end": min(start + DAY, before), "unit": unit}
                cursor.execute(MOVE, day | {"rows": ROWS_EACH_STEP})
            steps += 1
    return steps


def behind(*, now: datetime) -> datetime | None:
    """The oldest counter that should have become an hour long ago, if there is one."""
    with connection.cursor() as cursor:
        cursor.execute(NEXT, {"before": now - HOURS_AFTER - BEHIND_AFTER, "unit": "hour"})
        found = cursor.fetchone()
    return found[0] if found else None


@app.periodic(cron="23 * * * *")
@app.task(name="roll_up_usage", queue="upkeep", queueing_lock="roll_up_usage")
def roll_up_usage(timestamp: int) -> None:
    """Every hour."""
    try:
        roll_up(now=database_now())
    finally:
        connections.close_all()
