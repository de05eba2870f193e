"""Print, or with --apply give, the rights that the role of DATABASE_URL needs on the owner's tables."""

import argparse
import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from psycopg.conninfo import conninfo_to_dict

from apperate.database.embedded import access
from apperate.database.schema import grants


class Command(BaseCommand):
    help = "Print the rights that the role which serves requests needs; --apply gives them."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("role", nargs="?", help="instead of the role that DATABASE_URL names")
        parser.add_argument("--apply", action="store_true", help="run the statements as the owner")

    def handle(self, *args: Any, **options: Any) -> None:
        role = options["role"] or serving_role()
        if role == connection.settings_dict["USER"]:
            raise CommandError(
                f"{role} owns the tables and serves requests: it needs no rights. Give the owner's URL as "
                "DATABASE_OWNER_URL and that of a lesser role as DATABASE_URL."
            )
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
            if cursor.fetchone() is None:
                raise CommandError(
                    f"There is no role {role}. Make it first: CREATE ROLE {role} LOGIN PASSWORD '…'."
                )
        if not options["apply"]:
            for statement in grants.statements(role):
                self.stdout.write(f"{statement.as_string()};")
            return
        with transaction.atomic(), connection.cursor() as cursor:
            for statement in grants.statements(role):
                cursor.execute(statement)
        if options["verbosity"]:
            self.stdout.write(f"{role} has the rights it needs.")


def serving_role() -> str:
    """The role of DATABASE_URL, or that of the embedded database."""
    if settings.DATABASES["default"]["ENGINE"] == "apperate.database.embedded":
        return access.APP
    return str(conninfo_to_dict(os.environ["DATABASE_URL"]).get("user", ""))
