"""Restart what `manage.py up` runs, without a refused request: for a new version, or a worker grown old."""

import os
import signal
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apperate.running import listening

SECONDS_MAX = 600
LOOK_SECONDS = 0.1


class Command(BaseCommand):
    help = "Restart the server and the background work of a running `manage.py up`, one after the other."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        before = listening.who_runs(settings.DATA_DIR)
        if before is None:
            raise CommandError(
                f"No `manage.py up` runs on {settings.DATA_DIR}: start it, or set APPERATE_DATA_DIR.",
                returncode=1,
            )
        try:
            os.kill(before.pid, signal.SIGHUP)
        except PermissionError:
            raise CommandError(
                f"Process {before.pid} belongs to another account: run this as the account of Apperate.",
                returncode=1,
            ) from None
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            now = listening.who_runs(settings.DATA_DIR)
            if now is None or now.pid != before.pid:
                raise CommandError("Apperate ended meanwhile; its own output says why.", returncode=1)
            if now.reloads != before.reloads:
                if now.problem:
                    raise CommandError(f"Not reloaded: {now.problem}. What ran goes on.", returncode=1)
                self.stdout.write("Reloaded.")
                return
        raise CommandError(f"The reload has not ended in {SECONDS_MAX} s; it goes on.", returncode=1)
