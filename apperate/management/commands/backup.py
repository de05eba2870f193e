"""Make a backup while the service runs: one file with the database, the keys, and uploads of open jobs."""

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apperate.backup import making, schedule, sealed_keys, status
from apperate.backup.manifest import LEFT_OUT, Manifest, Unusable
from apperate.backup.retention import Keep, seconds_of
from apperate.running.configuration import flag

PASSPHRASE = "APPERATE_BACKUP_PASSPHRASE"  # noqa: S105  Its name, not its value.
PASSPHRASE_FILE = "APPERATE_BACKUP_PASSPHRASE_FILE"  # noqa: S105  The same.
WITHOUT_KEYS = "APPERATE_BACKUP_WITHOUT_KEYS"


class Command(BaseCommand):
    help = "Make a backup while the service runs. Restore it with `manage.py restore`."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--to", metavar="FOLDER|FILE|-",
            help="a folder, a new file, or - for standard output; by default APPERATE_BACKUP_TO",
        )  # fmt: skip
        add_key_arguments(parser)
        parser.add_argument(
            "--every", metavar="6h", nargs="?", const="",
            help="go on, and make one that often (30m, 6h, 1d); by default APPERATE_BACKUP_EVERY",
        )  # fmt: skip
        parser.add_argument(
            "--keep", metavar="7d4w6m",
            help="remove others: keep the newest of each of 7 days, 4 weeks and 6 months (h, d, w, m, y)",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.make(options)
        except Unusable as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Stopped; no backup was made.", returncode=130) from None

    def make(self, options: dict[str, Any]) -> None:
        passphrase = passphrase_of(options, said=True)
        target = options["to"] or settings.BACKUP_TO
        if not target:
            raise Unusable(
                "Where to? Give --to FOLDER, or set APPERATE_BACKUP_TO; best the disk of another machine."
            )
        path = Path(target).expanduser().absolute()
        is_file = target == "-" or (path.suffix == ".tar" and not path.is_dir())
        if is_file and (options["keep"] or options["every"] is not None):
            raise Unusable("--every and --keep need a folder: give --to FOLDER.")
        keep = Keep.of(options["keep"]) if options["keep"] else None
        if target == "-":
            self.to_standard_output(passphrase)
        elif options["every"] is not None:
            text = options["every"]
            every = seconds_of(text, "--every") if text else settings.BACKUP_EVERY_SECONDS
            schedule.run(
                path, every_seconds=every, keep=keep or settings.BACKUP_KEEP, passphrase=passphrase,
                say=self.stderr.write,
            )  # fmt: skip
        else:
            self.once(path, passphrase, keep, is_file=is_file)

    def to_standard_output(self, passphrase: str | None) -> None:
        if sys.stdout.isatty():
            raise Unusable("A backup is no text for a terminal: send it to a file or a program.")
        manifest = making.make(sys.stdout.buffer, passphrase=passphrase, progress=shown("written"))
        sys.stdout.buffer.flush()
        self.stderr.write(said_of(manifest))

    def once(self, path: Path, passphrase: str | None, keep: Keep | None, *, is_file: bool) -> None:
        progress = shown("written")
        try:
            if is_file:
                done = schedule.to_file(path, passphrase=passphrase, progress=progress)
            else:
                done = schedule.to_folder(path, passphrase=passphrase, keep=keep, progress=progress)
        except Unusable as error:
            status.record_failed(str(error), now=datetime.now(UTC))
            raise
        size = f"{done.path.stat().st_size / 1e6:,.1f} MB in {done.seconds:.1f} s."
        self.stderr.write(f"{said_of(done.manifest)} {size}")
        for removed in done.removed:
            self.stderr.write(f"Removed {removed.name}.")
        self.stdout.write(str(done.path))


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file", metavar="FILE", help=f"its first line seals the keys; or {PASSPHRASE_FILE}"
    )
    parser.add_argument("--without-keys", action="store_true", help="leave the key files out")


def passphrase_of(options: dict[str, Any], *, said: bool) -> str | None:
    """The passphrase of the options or of the environment; None for --without-keys. Raises Unusable."""
    without = options["without_keys"]
    if without and options["passphrase_file"]:
        raise Unusable("--passphrase-file and --without-keys: choose one.")
    if options["passphrase_file"]:
        return sealed_keys.read_passphrase(Path(options["passphrase_file"]).expanduser())
    if without:
        return None
    if text := os.environ.get(PASSPHRASE, ""):
        return sealed_keys.checked_passphrase(text, PASSPHRASE)
    if path := os.environ.get(PASSPHRASE_FILE, ""):
        return sealed_keys.read_passphrase(Path(path).expanduser())
    if said and flag(os.environ, WITHOUT_KEYS, default=False):
        return None
    raise Unusable(
        "With the keys or without? Give --passphrase-file FILE, whose first line seals or opens them, or "
        f"--without-keys. ({PASSPHRASE_FILE}, {PASSPHRASE} and {WITHOUT_KEYS} say the same for every backup.)"
    )


def said_of(manifest: Manifest) -> str:
    keys = "without keys" if manifest.keys == LEFT_OUT else "with sealed keys"
    jobs = f", {manifest.open_jobs} open jobs" if manifest.open_jobs else ""
    return f"{manifest.rows:,} rows of {len(manifest.tables)} tables, {keys}{jobs}."


def shown(what: str, total: int = 0) -> Callable[[int], object]:
    """Shows on a terminal how far it is; with a total the figures are added up, else they are the sum."""
    if not sys.stderr.isatty():
        return lambda _: None
    done = 0

    def show(count: int) -> None:
        nonlocal done
        done = done + count if total else count
        share = f" {100 * done / total:3.0f} %" if total else ""
        sys.stderr.write(f"\r{done / 1e6:,.0f} MB {what}{share} \x1b[K")
        if total and done >= total:
            sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    return show
