"""The backend of every database of this project, pooled where OPTIONS["pool"] says so."""

from typing import Any

from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base

from apperate.database.live import LivePool
from apperate.database.pooled.schema import DatabaseSchemaEditor
from apperate.database.schema.patience import Patience


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own backend always makes psycopg's pool; no setting can name another."""

    SchemaEditorClass = DatabaseSchemaEditor
    patience: Patience | None = None  # of `manage.py migrate`, while it runs

    @property
    def pool(self) -> LivePool | None:
        options = self.settings_dict["OPTIONS"].get("pool")
        if not options or self.alias == NO_DB_ALIAS:
            return None
        pools: dict[str, Any] = self._connection_pools  # type: ignore[attr-defined]  # Not in the stubs.
        if self.alias not in pools:
            arguments = {**self.get_connection_params(), "autocommit": True}  # Django sets it later on.
            configure = self._configure_connection  # type: ignore[attr-defined]
            made = LivePool(kwargs=arguments, open=False, configure=configure, **options)
            pools.setdefault(self.alias, made)  # Another thread may have been first.
        found: LivePool = pools[self.alias]
        return found
