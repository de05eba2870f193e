"""How tables are changed: Django's way, but a change outside of a transaction is not stopped half-way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models
from django.db.backends.postgresql import schema


class DatabaseSchemaEditor(schema.DatabaseSchemaEditor):
    """Outside of a transaction each statement is tried again by itself, as the connection's patience allows.

    AddIndexConcurrently and RemoveIndexConcurrently wait as long as they must: they lock nobody out. One that
    was stopped has left an index that is not valid and has the name; it is removed first.
    """

    connection: Any
    _waits_for_long = False

    def execute(self, sql: Any, params: Any = ()) -> None:
        patience = self.connection.patience
        if patience is None or self.collect_sql or self._waits_for_long or self.connection.in_atomic_block:
            super().execute(sql, params)
        else:
            run = super().execute
            patience(lambda: run(sql, params))

    def add_index(self, model: type[models.Model], index: models.Index, concurrently: bool = False) -> None:
        if not concurrently or self.collect_sql:
            super().add_index(model, index, concurrently=concurrently)
            return
        with self._long_wait():
            is_valid = self._is_valid(index.name)
            if is_valid is False:
                self.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {self.quote_name(index.name)}")
            if not is_valid:  # Else it was built, and stopped before that was written down.
                super().add_index(model, index, concurrently=True)

    def remove_index(
        self, model: type[models.Model], index: models.Index, concurrently: bool = False
    ) -> None:
        if not concurrently or self.collect_sql:
            super().remove_index(model, index, concurrently=concurrently)
            return
        with self._long_wait():
            super().remove_index(model, index, concurrently=True)

    @contextmanager
    def _long_wait(self) -> Iterator[None]:
        """Wait for the end of transactions that began before, however long they take."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout')")
            (before,) = cursor.fetchone()
            cursor.execute("SET lock_timeout = 0")
        self._waits_for_long = True
        try:
            yield
        finally:
            self._waits_for_long = False
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", [before])

    def _is_valid(self, name: str) -> bool | None:
        """Of an index; None if there is none of this name."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                """SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                    WHERE c.relname = %s AND c.relnamespace = 'public'::regnamespace""",
                [name],
            )
            row = cursor.fetchone()
        return None if row is None else bool(row[0])
