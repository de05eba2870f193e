"""Export everything of a workspace, or erase it, from the shell."""

import argparse
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from apperate.accounts.audit import trail
from apperate.accounts.models import Workspace
from apperate.database.clock import database_now
from apperate.offboarding import erasure, export

OPERATOR = "operator (shell)"
REMAINS = """What remains, and why:
  - One audit event without a name: that a workspace was erased, how many events it had and the seal of the
    last, so that an exported audit log can still be compared.
  - What other workspaces' tokens used of its datasets: their usage, in which a dataset is a number.
  - People who are in another workspace as well, or operators; and in those audit logs what they did there.
  - Lines of the log, and backups and exports made before: they go when you remove them."""


class Command(BaseCommand):
    help = "Export everything of a workspace, or erase it."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True)
        exported = what.add_parser("export", help="write everything of a workspace to a zip")
        exported.add_argument("name", help="its id in URLs")
        exported.add_argument(
            "--to", metavar="FILE", default="", help="- for the standard output; NAME-DATE.zip when not given"
        )
        erased = what.add_parser("erase", help="remove every row and file of a workspace, for good")
        erased.add_argument("name", help="its id in URLs")
        erased.add_argument("--yes", action="store_true", help="do not ask for its name again")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"].upper()
        workspace = Workspace.objects.filter(name=name).first()
        if workspace is None:
            raise CommandError(f"There is no workspace {name}.")
        with trail.asked_by(address="", actor=OPERATOR):
            if options["what"] == "export":
                self.export(workspace, options["to"])
            else:
                self.erase(workspace, is_confirmed=options["yes"])

    def export(self, workspace: Workspace, target: str) -> None:
        now = database_now()
        if target == "-":
            records = export.write(workspace, sys.stdout.buffer, now=now)
        else:
            path = Path(target or f"{workspace.name}-{now:%Y-%m-%d}.zip")
            records = self.export_to(path, workspace)
        trail.record("workspace.exported", workspace=workspace, by=None, now=now, after={"records": records})
        where = "the standard output" if target == "-" else str(path)
        self.stderr.write(f"{workspace.name}: {records:,} records and the rest are in {where}.")

    def export_to(self, path: Path, workspace: Workspace) -> int:
        """Write it under another name until it is whole. What others could read would be a leak."""
        draft = path.with_name(f".{path.name}.part")
        try:
            if path.exists():
                raise CommandError(f"{path} is there already: name another file, or remove it.")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                records = export.write(workspace, file, now=database_now())
            draft.rename(path)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror or error}.") from None
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        return records

    def erase(self, workspace: Workspace, *, is_confirmed: bool) -> None:
        if reason := erasure.refusal_of(workspace):
            raise CommandError(reason)
        name = workspace.name
        if not is_confirmed:
            self.confirm(workspace)
        try:
            erasure.close(workspace, now=database_now())
            self.stderr.write(f"{name} is closed. Waiting until no worker serves it from memory …")
            time.sleep(erasure.WAIT_SECONDS)
            done = erasure.erase(workspace, now=database_now())
        except (erasure.Busy, OperationalError) as error:
            raise CommandError(
                f"{name} is closed and not erased yet: {' '.join(str(error).split())} Run the command again."
            ) from None
        self.stdout.write(
            f"{name} is erased: {done.tokens:,} tokens, {done.datasets:,} datasets, {done.events:,} audit "
            f"events, {done.people:,} people, {done.files:,} folders of files."
        )
        if done.last_seal:
            self.stdout.write(f"The seal of its last audit event: {done.last_seal}")
        self.stdout.write(REMAINS)

    def confirm(self, workspace: Workspace) -> None:
        if not sys.stdin.isatty():
            raise CommandError("Nobody can be asked here: repeat it with --yes to erase the workspace.")
        self.stdout.write(
            f"{workspace.name} ({workspace.title}) has {workspace.tokens.count():,} tokens, "
            f"{workspace.datasets.count():,} datasets and {workspace.memberships.count():,} members. Nothing "
            "brings them back; `manage.py workspaces export` keeps a copy."
        )
        if input(f"Type {workspace.name} to erase it: ").strip() != workspace.name:
            raise CommandError("That is another name; nothing was erased.")
