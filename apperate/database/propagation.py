"""When every worker has taken over a change: what a service waits for before it says "disabled".

    announce_on_commit()          after the commit: wake the workers, and wait until each has looked
    take_unconfirmed() -> int     how many workers had not looked after a second; asked once
    unconfirmed_words(count)      the sentence that says so

Each worker's session holds one shared advisory lock, whose number is the time of its last poll by the
database's clock (follower.py). A session that ends lets its lock go, so only workers that live are waited
for, on any host. The announcement is a hint: polling finds the change without it.
Source: docs/decisions/0026-taken-over.md.
"""

import time
from contextvars import ContextVar

from django.db import connection, transaction

from apperate.database.outage import UNAVAILABLE, outage

CHANNEL = "apperate_changes"
LOCKS = 4_150_021  # class of advisory locks, one for each worker
TICKS_PER_SECOND = 10_000
TICKS = 2**31  # a lock's number has 31 bits and starts again after 59 hours
CONFIRM_SECONDS_MAX = 1.0
PAUSES = (0.002, 0.004, 0.008, 0.016, 0.032)  # seconds between looks; the last one is repeated

# The time at which this statement came in, which is before what it can see.
TICK = f"mod(floor(extract(epoch FROM statement_timestamp()) * {TICKS_PER_SECOND})::bigint, {TICKS})::int"
ANNOUNCE = f"SELECT {TICK}, pg_notify('{CHANNEL}', '')"
SEEN = """
SELECT objid::bigint FROM pg_locks
 WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_unconfirmed: ContextVar[int] = ContextVar("unconfirmed", default=0)


def announce_on_commit() -> None:
    """Once the transaction around this is committed, wait until the workers have seen it: 1 s at most."""
    transaction.on_commit(_announce, robust=True)


def take_unconfirmed() -> int:
    """How many workers had not confirmed the last change made here; 0 when asked again."""
    count = _unconfirmed.get()
    _unconfirmed.set(0)
    return count


def unconfirmed_words(count: int) -> str:
    who = "1 server process has" if count == 1 else f"{count} server processes have"
    return f"{who} not confirmed this yet. Within 5 seconds it confirms, or it refuses every request."


def is_behind(seen: int, tick: int) -> bool:
    """Whether a poll at `seen` may have come before `tick`; both start again after TICKS."""
    return not 0 < (seen - tick) % TICKS < TICKS // 2


def _announce() -> None:
    """The change is stored: whatever happens here, it is only not known who has seen it."""
    _unconfirmed.set(0)
    try:
        _unconfirmed.set(_wait())
    except UNAVAILABLE as error:
        outage.note(error)
        _unconfirmed.set(1)


def _wait() -> int:
    until = time.monotonic() + CONFIRM_SECONDS_MAX
    with connection.cursor() as cursor:
        cursor.execute(ANNOUNCE)
        tick = cursor.fetchone()[0]
        looks = 0
        while True:
            cursor.execute(SEEN, [LOCKS])
            behind = sum(is_behind(seen, tick) for (seen,) in cursor.fetchall())
            if not behind or time.monotonic() >= until:
                return behind
            time.sleep(PAUSES[min(looks, len(PAUSES) - 1)])
            looks += 1
