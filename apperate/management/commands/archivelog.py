"""Keep the embedded server's write-ahead log aside, and base backups; `manage.py up` starts it.

archivelog receive      becomes pg_receivewal
archivelog bases        makes a base backup whenever one is due, for ever; --once makes one and ends
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


class Command(BaseCommand):
    help = "Keep the log of the embedded database in APPERATE_WAL_ARCHIVE; `manage.py up` does it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("what", choices=["receive", "bases"])
        parser.add_argument("--once", action="store_true", help="with bases: make one if it is due, and end")

    def handle(self, *args: Any, **options: Any) -> None:
        if (
            not settings.WAL_ARCHIVE
            or settings.DATABASES["default"]["ENGINE"] != "apperate.database.embedded"
        ):
            raise CommandError("This is for the embedded database with APPERATE_WAL_ARCHIVE set to a folder.")
        try:
            if options["what"] == "receive":
                point_in_time.receive()
            self.keep_base(told=options["once"])
        except Unusable as error:
            raise CommandError(str(error)) from None
        while not options["once"]:
            time.sleep(ASKED_AGAIN_SECONDS)
            self.keep_base(told=False)

    def keep_base(self, *, told: bool) -> None:
        try:
            made = point_in_time.keep_base(
                Path(settings.WAL_ARCHIVE), apperate=VERSION, now=datetime.now(UTC)
            )
        except Unusable as error:
            if told:
                raise
            status.record_failed(str(error), now=datetime.now(UTC))
            return
        if made:
            self.stderr.write(f"base backup: {made.path}")
