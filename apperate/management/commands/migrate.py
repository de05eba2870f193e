"""Django's `migrate`, beside servers that go on serving: with time limits, and one host at a time.

A migration that is one transaction is tried again as a whole. One that is none (`atomic = False`) goes on at
the statement that was stopped: database/pooled/schema.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError, connections
from psycopg import errors

from apperate.database.schema.patience import Patience
from apperate.database.schema.released import is_released

# A statement within a transaction keeps what it has locked; one outside of it, such as the building of an
# index, locks nobody out. What was released before there were limits may take long in one transaction.
IN_TRANSACTION_SECONDS = 10
ALONE_SECONDS = 3600
ONE_AT_A_TIME = 4_150_024  # the advisory lock of whoever migrates


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        connection: Any = connections[options["database"]]
        self.patience = connection.patience = Patience(connection, self.stderr.write)
        self.limit(ALONE_SECONDS)
        try:
            self.patience(lambda: self.migrate(connection, *args, **options))
        except OperationalError as error:
            if not isinstance(error.__cause__, errors.QueryCanceled):
                raise
            raise CommandError(
                f"{self.patience.name} was stopped: one of its statements took longer than {self.seconds} s."
            ) from error
        finally:
            connection.patience = None
            if connection.is_usable():
                with connection.cursor() as cursor:
                    cursor.execute("RESET lock_timeout")
                    cursor.execute("RESET statement_timeout")

    def migrate(self, connection: Any, *args: Any, **options: Any) -> None:
        with self.alone(connection):
            super().handle(*args, **options)

    def migration_progress_callback(self, action: str, migration: Any = None, fake: bool = False) -> None:
        if action in ("apply_start", "unapply_start"):
            self.patience.name = str(migration)
            is_short = migration.atomic and not is_released(migration.app_label, migration.name)
            self.limit(IN_TRANSACTION_SECONDS if is_short else ALONE_SECONDS)
        super().migration_progress_callback(action, migration, fake)

    def limit(self, seconds: int) -> None:
        self.seconds = seconds
        self.patience.limit("statement_timeout", 1_000 * seconds)

    @contextmanager
    def alone(self, connection: Any) -> Iterator[None]:
        """Two hosts that start at once migrate one after the other."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [ONE_AT_A_TIME])
        try:
            yield
        finally:
            if connection.is_usable():
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock(%s)", [ONE_AT_A_TIME])
