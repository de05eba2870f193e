"""recover(): write what workers that were killed had counted, and give back the credits they held.

Every worker looks every two seconds; a lock on the file decides who does it. A second try adds nothing,
because each part has an id.
"""

import asyncio
import logging
from pathlib import Path

from django.conf import settings

from apperate.database.background import Background
from tokens.gate import leases
from tokens.metering import meter
from tokens.metering.journal import FOLDER_NAME, Left, journal, left_behind

LOOK_SECONDS = 2.0
logger = logging.getLogger("apperate.usage")


def folder() -> Path:
    """Where the journals of this machine's workers are."""
    return Path(settings.DATA_DIR) / FOLDER_NAME


async def recover() -> int:
    """How many journals were brought in. One that cannot be stays for the next try."""
    found = await asyncio.to_thread(left_behind, folder())
    for place, left in enumerate(found):
        try:
            await _bring_in(left)
            left.done()
        except BaseException:
            for later in found[place:]:
                later.leave()
            raise
    return len(found)


async def _bring_in(left: Left) -> None:
    for batch, counted in left.counts:
        await meter.write(batch, counted)
    if left.held:
        await leases.give_back(left.held_batch, leases.returned(left.held))
    calls = sum(totals.calls for _, counted in left.counts for totals in counted.values())
    logger.warning(
        "a worker that was killed left this, now written calls=%d credits_given_back=%d",
        calls, sum(left.held.values()),
    )  # fmt: skip


class Recovery:
    """This worker's journal, and its look at those of others. One per process."""

    def __init__(self) -> None:
        self._work = Background(
            "recovery", self._look, every_seconds=LOOK_SECONDS, logger=logger,
            fault="what killed workers had counted cannot be written; trying again",
        )  # fmt: skip

    async def ensure_started(self) -> None:
        """Begin a journal and look after those of others. Without one a kill costs a second's counts."""
        if self._work.is_running():
            return
        try:
            await asyncio.to_thread(journal.open, folder())
        except OSError as error:
            logger.warning("no journal of what is counted: a worker that is killed loses it error=%s", error)
        self._work.start()

    async def stop(self) -> None:
        """After the counts were written and the leases returned."""
        await self._work.stop()
        journal.end()

    async def _look(self) -> None:
        await recover()


recovery = Recovery()
