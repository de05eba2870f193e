"""Make a workspace and its owner from the shell: how the first person gets access."""

import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email

from apperate.accounts.models import User
from apperate.accounts.plans import PLANS
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from apperate.team.services import Created, create_workspace


class Command(BaseCommand):
    help = "Make a workspace, and print the invitation link of its owner."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="its id in URLs: A–Z, 0–9 and _, for example ACME")
        parser.add_argument("--owner", required=True, metavar="E-MAIL", help="becomes its primary")
        parser.add_argument("--title", default="", help="what people read; the name when not given")
        parser.add_argument(
            "--plan",
            choices=list(PLANS),
            help="business for the first workspace, launch for others when not given",
        )
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="read the owner's password from the standard input and send no invitation",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        email = options["owner"].strip().lower()
        try:
            validate_email(email)
            password = self.password_for(email) if options["password_stdin"] else None
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        made = create_workspace(
            name=options["name"],
            title=options["title"],
            plan=options["plan"],
            owner_email=email,
            by=None,
            now=database_now(),
            password=password,
        )
        if isinstance(made, Refusal):
            raise CommandError(" ".join(filter(None, [made.detail, made.received and f"({made.received})"])))
        self.tell(made, email)

    def password_for(self, email: str) -> str:
        password = sys.stdin.readline().rstrip("\r\n")
        validate_password(password, User(email=email))
        return password

    def tell(self, made: Created, email: str) -> None:
        workspace = made.workspace
        self.stdout.write(f"Made the workspace {workspace.name} on the plan {workspace.plan}.")
        if made.url:
            self.stdout.write(f"Invitation of {email}, valid once:\n{made.url}")
            if made.mail_fault:
                self.stderr.write(
                    f"It could not be sent: {made.mail_fault}. Pass it on yourself, and look at EMAIL_URL."
                )
        else:
            self.stdout.write(f"{email} signs in with the password given.")
