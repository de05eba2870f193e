"""Restore a backup into an empty database, embedded or of DATABASE_URL, in one command."""

import argparse
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from apperate.backup import recovery, replay, restoring, revocations
from apperate.backup.manifest import SEALED, Manifest, Unusable, major
from apperate.backup.restoring import Plan, Restored
from apperate.kernel import keyring
from apperate.management.commands.backup import add_key_arguments, passphrase_of, shown
from apperate.running import listening

SHOWN_MAX = 200


class Command(BaseCommand):
    help = "Restore a backup into an empty database. Everything is checked before anything is written."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "file", help="what `manage.py backup` made; with --until a folder of APPERATE_WAL_ARCHIVE"
        )
        parser.add_argument(
            "--until", metavar="TIME",
            help="the embedded database as it was then, '2026-11-30 12:00' in UTC, or latest",
        )  # fmt: skip
        add_key_arguments(parser)
        parser.add_argument(
            "--revocations", nargs="+", default=[], metavar="FILE",
            help="files of revocations from other hosts; those beside the backup and in the data directory "
            "are found",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with listening.the_only_one(settings.DATA_DIR, "a restore"):
                if options["until"]:
                    self.recover(options)
                else:
                    self.restore(options)
        except (Unusable, ImproperlyConfigured, OSError) as error:
            raise CommandError(" ".join(str(error).split())) from None
        except KeyboardInterrupt:
            raise CommandError("Stopped: run it again, with the same file.", returncode=130) from None

    def restore(self, options: dict[str, Any]) -> None:
        began = time.monotonic()
        path = Path(options["file"]).expanduser().absolute()
        given = given_files(options)
        if path.is_dir() or not path.exists():
            raise Unusable(
                f"{path} is {'a folder' if path.exists() else 'not there'}: name the file of a backup."
            )
        size = path.stat().st_size
        plan = restoring.plan(
            path, passphrase=passphrase_of(options, said=False), progress=shown("checked", size)
        )
        self.introduce(plan)
        connections.close_all()
        restored = restoring.carry_out(
            plan, given=given, say=self.stdout.write, progress=shown("loaded", size)
        )
        self.report(restored, seconds=time.monotonic() - began)

    def recover(self, options: dict[str, Any]) -> None:
        """The embedded database as it was at a moment, from the log that was kept aside."""
        began = time.monotonic()
        folder = Path(options["file"]).expanduser().absolute()
        until = recovery.moment_of(options["until"])
        given = given_files(options)
        what, note = f"{folder} {options['until']}", restoring.read_note()
        if note:
            self.stdout.write(f"A restore that began at {note.get('began_at')} did not come to its end.")
        if note.get("id") != what or not (Path(settings.DATA_DIR) / "db" / "pg").exists():
            restoring.begin(folder, what)
            try:
                recovery.recover(folder, until=until, say=self.stdout.write)
            except Unusable:
                restoring.end()
                raise
        noted, replayed, reached = restoring.finish_recovery(folder, given, until=until)
        said = f"{reached:%Y-%m-%d %H:%M:%S} UTC"
        self.stdout.write(self.style.SUCCESS(f"Back at {said}, in {time.monotonic() - began:.1f} s."))
        self.tell_revocations(noted, replayed)
        path = Path(settings.DATA_DIR) / keyring.KEY_FILE
        if not path.exists():
            self.stdout.write(f"{path} is not there: put it back from a backup before you start Apperate.")
        self.stdout.write("Next: `manage.py doctor`, then `manage.py up`.")

    def introduce(self, plan: Plan) -> None:
        manifest = plan.manifest
        self.stdout.write(
            f"{plan.checked.path.name} is whole: {manifest.rows:,} rows as of {restore_point(manifest)}, of "
            f"Apperate {manifest.apperate} on PostgreSQL {manifest.postgresql}."
        )
        if plan.was_cut_short:
            what = "goes on after its load" if plan.goes_on else "starts over"
            self.stdout.write(
                f"A restore that began at {plan.was_cut_short} did not come to its end; this one {what}."
            )
        if major(plan.server) < major(manifest.postgresql):
            self.stdout.write(
                f"The server is older, PostgreSQL {plan.server}: the dump is tried in one transaction, and "
                "if it does not fit nothing is kept."
            )

    def report(self, restored: Restored, *, seconds: float) -> None:
        manifest = restored.manifest
        self.stdout.write(self.style.SUCCESS(f"Restored to {restore_point(manifest)}, in {seconds:.1f} s."))
        self.tell_revocations(restored.noted, restored.replayed)
        self.stdout.write("What was written after that time is not there. Everybody signs in again.")
        if manifest.keys != SEALED or not (Path(settings.DATA_DIR) / keyring.KEY_FILE).exists():
            self.stdout.write(
                f"Without its keys secrets cannot be shown and signatures not be checked: put "
                f"{keyring.KEY_FILE} into {settings.DATA_DIR}, or set {keyring.KEYS_VARIABLE}."
            )
        self.stdout.write("Next: `manage.py doctor`, then `manage.py up`.")

    def tell_revocations(self, noted: revocations.Noted, replayed: replay.Replayed) -> None:
        if not noted.files:
            self.stdout.write(
                "No file of revocations was found, so whatever was disabled, deleted or rotated since then "
                "works again: look through the API Tokens and Team pages before you open the door."
            )
        else:
            last = f"{noted.lines[-1].at:%Y-%m-%d %H:%M:%S} UTC" if noted.lines else "none"
            named = ", ".join(map(str, noted.files))
            self.stdout.write(f"Revocations since then, from {named} (last line: {last}):")
            self.list_up("taken away again", replayed.done)
            self.list_up("to be looked at", replayed.to_see)
        if noted.unreadable:
            self.stdout.write(f"{noted.unreadable} lines of revocations could not be read.")

    def list_up(self, what: str, lines: list[str]) -> None:
        self.stdout.write(f"  {what}: {len(lines) or 'nothing'}")
        for line in lines[:SHOWN_MAX]:
            self.stdout.write(f"    {line}")
        if len(lines) > SHOWN_MAX:
            self.stdout.write(
                f"    and {len(lines) - SHOWN_MAX} more, in {settings.DATA_DIR / restoring.LAST}"
            )


def given_files(options: dict[str, Any]) -> list[Path]:
    given = [Path(name).expanduser().absolute() for name in options["revocations"]]
    for missing in (name for name in given if not name.exists()):
        raise Unusable(f"There is no file {missing}.")
    return given


def restore_point(manifest: Manifest) -> str:
    return f"{datetime.fromisoformat(manifest.made_at):%Y-%m-%d %H:%M:%S} UTC"
