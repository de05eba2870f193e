"""queryId: what a token has already read from a dataset, so that it gets only what is new since.

    begin(token, dataset, name, now=…) -> Mark       where this answer begins; called before reading
    settle(mark, is_first=…, is_last=…)              once it is paid for: where the next one begins

Every record is returned at least once: the next answer begins ten seconds before this request, and before any
job then running, because what a transaction writes becomes visible only later. An answer of several pages
advances the mark once its last page was read. Forgotten after a day without use.
Source: docs/query-parameters.md.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from apperate.database import shares

OVERLAP = timedelta(seconds=10)
KEPT = timedelta(hours=24)

# One row. Indexes: datasets_querymark_once, datasets_job_newest_first.
BEGIN = """
SELECT m.since, least(%(now)s, (SELECT min(j.started_at) FROM datasets_ingestjob j
        WHERE j.dataset_id = %(dataset)s AND j.status IN ('VALIDATING', 'PROCESSING')))
  FROM (SELECT 1) one LEFT JOIN datasets_querymark m ON m.token_id = %(token)s
   AND m.dataset_id = %(dataset)s AND m.name = %(name)s AND m.used_at > %(forgotten)s
"""

# No row back. Writes nothing for a dataset that is gone.
FIRST_PAGE = """
INSERT INTO datasets_querymark AS m (token_id, dataset_id, name, since, next_since, used_at)
SELECT %(token)s, %(dataset)s, %(name)s, %(since)s, %(next)s, %(now)s
 WHERE EXISTS (SELECT FROM datasets_dataset d WHERE d.id = %(dataset)s)
ON CONFLICT (token_id, dataset_id, name) DO UPDATE
   SET since = excluded.since, next_since = excluded.next_since, used_at = excluded.used_at
"""
LATER_PAGE = """
UPDATE datasets_querymark SET used_at = %(now)s,
       since = CASE WHEN %(is_last)s THEN next_since ELSE since END
 WHERE token_id = %(token)s AND dataset_id = %(dataset)s AND name = %(name)s
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """`since`: where the last complete answer ended, None before the first. `next`: where this one ends."""

    token_id: int
    dataset_id: int
    name: str
    since: datetime | None
    next: datetime
    now: datetime

    @property
    def updated_from(self) -> datetime | None:
        """Records written from this moment on are selected."""
        return None if self.since is None else self.since - OVERLAP


async def begin(token_id: int, dataset_id: int, name: str, *, now: datetime) -> Mark:
    """Where the answer begins. One query; must run before the records are read."""
    asked = {
        "token": token_id, "dataset": dataset_id, "name": name, "now": now, "forgotten": now - KEPT,
    }  # fmt: skip
    ((since, ends),) = await shares.look_up(BEGIN, asked)
    return Mark(token_id, dataset_id, name, since, ends, now)


async def settle(mark: Mark, *, is_first: bool, is_last: bool) -> None:
    """Remember what was read. One statement."""
    facts = {
        "token": mark.token_id, "dataset": mark.dataset_id, "name": mark.name, "now": mark.now,
        "next": mark.next, "since": mark.next if is_last else mark.since, "is_last": is_last,
    }  # fmt: skip
    await shares.look_up(FIRST_PAGE if is_first else LATER_PAGE, facts, repeat=False)
