"""List, disable, enable and rotate tokens from the shell: for the day the dashboard cannot be reached.

What is done here is audited as the operator's, and holds like what is done on the pages.
"""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apperate.accounts.audit import trail
from apperate.accounts.models import Workspace
from apperate.database import propagation
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from tokens import selectors
from tokens.models import Token
from tokens.rules.vocabulary import OVERLAPS
from tokens.services import lifecycle, rotation

OPERATOR = "operator (shell)"
HEAD = ("ID", "NICKNAME", "KIND", "STATUS", "LAST USED", "VALUE")


class Command(BaseCommand):
    help = "List, disable, enable or rotate tokens without the dashboard."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True)
        listed = what.add_parser("list", help="the tokens of a workspace, oldest first")
        listed.add_argument("workspace", help="its id in URLs")
        for name, help_text in (
            ("disable", "refuse every request of these tokens"),
            ("enable", "serve disabled tokens again"),
        ):
            changed = what.add_parser(name, help=help_text)
            changed.add_argument("ids", nargs="+", metavar="tok_…")
        rotated = what.add_parser("rotate", help="give a token a new value, which is printed")
        rotated.add_argument("id", metavar="tok_…")
        rotated.add_argument(
            "--overlap", type=int, choices=list(OVERLAPS), default=0, metavar="SECONDS",
            help=f"how long the old value goes on working: {', '.join(map(str, OVERLAPS))}; 0 by default",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        with trail.asked_by(address="", actor=OPERATOR):
            match options["what"]:
                case "list":
                    self.show(options["workspace"])
                case "rotate":
                    self.rotate(options["id"], options["overlap"])
                case what:
                    self.change(what, options["ids"])

    def show(self, name: str) -> None:
        workspace = Workspace.objects.filter(name=name.upper()).first()
        if workspace is None:
            raise CommandError(f"There is no workspace {name.upper()}.")
        now = database_now()
        rows = [selectors.row(token, now=now) for token in selectors.of_workspace(workspace, now=now)]
        lines = [
            (
                row.token.public_id, row.token.nickname or "-", row.token.kind, str(row.status),
                f"{row.last_used_at:%Y-%m-%d %H:%M}" if row.last_used_at else "never", row.token.masked,
            )
            for row in rows
        ]  # fmt: skip
        widths = [max(len(line[place]) for line in (HEAD, *lines)) for place in range(len(HEAD))]
        for line in (HEAD, *lines):
            padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
            self.stdout.write("  ".join(padded).rstrip())

    def change(self, what: str, ids: list[str]) -> None:
        """All of them or, where one is not there, none."""
        found = [token_of(public_id) for public_id in ids]
        service = lifecycle.disable if what == "disable" else lifecycle.enable
        for token in found:
            service(token=token, by=None, now=database_now())
            self.stdout.write(f"{token.public_id} {token.name}: {what}d")
            self.say_unconfirmed()

    def rotate(self, public_id: str, overlap_seconds: int) -> None:
        token = token_of(public_id)
        outcome = rotation.rotate(token=token, overlap_seconds=overlap_seconds, by=None, now=database_now())
        if isinstance(outcome, Refusal):
            raise CommandError(outcome.detail)
        self.stdout.write(outcome.value)
        self.stderr.write(f"{token.public_id} {token.name}: the old value ends {OVERLAPS[overlap_seconds]}.")
        self.say_unconfirmed()

    def say_unconfirmed(self) -> None:
        if count := propagation.take_unconfirmed():
            self.stderr.write(propagation.unconfirmed_words(count))


def token_of(public_id: str) -> Token:
    token = Token.objects.filter(public_id=public_id, deleted_at=None).select_related("workspace").first()
    if token is None:
        raise CommandError(f"There is no token {public_id}; `manage.py tokens list WORKSPACE` has them.")
    return token
