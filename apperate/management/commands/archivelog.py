"""Keep the embedded server's write-ahead log aside, and base backups; `manage.py up` starts it.

    archivelog receive      runs pg_receivewal, for ever
    archivelog bases        makes a base backup whenever one is due, for ever; --once makes one and ends

What goes wrong is a line in the log and tried again: an archive that is away must not end the service.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apperate.backup import point_in_time, status
from apperate.backup.manifest import Unusable
from apperate.kernel.version import VERSION

ASKED_AGAIN_SECONDS = 60.0
TRIED_AGAIN_SECONDS = 10.0


class Command(BaseCommand):
    help = "Keep the log of the embedded database in APPERATE_WAL_ARCHIVE; `manage.py up` does it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("what", choices=["receive", "bases"])
        parser.add_argument("--once", action="store_true", help="with bases: make one if it is due, and end")

    def handle(self, *args: Any, **options: Any) -> None:
        is_embedded = settings.DATABASES["default"]["ENGINE"] == "apperate.database.embedded"
        if not settings.WAL_ARCHIVE or not is_embedded:
            raise CommandError("This is for the embedded database with APPERATE_WAL_ARCHIVE set to a folder.")
        if options["once"]:
            try:
                self.keep_base()
            except Unusable as error:
                raise CommandError(str(error)) from None
            return
        step, pause = (
            (point_in_time.receive, TRIED_AGAIN_SECONDS)
            if options["what"] == "receive"
            else (self.keep_base, ASKED_AGAIN_SECONDS)
        )
        while True:
            try:
                step()
            except Exception as error:
                # Whatever it was: this process must be there for the next try.
                status.record_failed(" ".join(str(error).split()), now=datetime.now(UTC))
            time.sleep(pause)

    def keep_base(self) -> None:
        folder = Path(settings.WAL_ARCHIVE)
        made = point_in_time.keep_base(folder, apperate=VERSION, now=datetime.now(UTC))
        if made:
            self.stderr.write(f"base backup: {made.path}")
