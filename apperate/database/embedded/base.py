"""Django's PostgreSQL backend for the embedded server, which it starts at the first connection."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.db.backends.postgresql.client import DatabaseClient as PostgresClient

from apperate.database.embedded import binaries, launcher
from apperate.database.pooled import base


class DatabaseClient(PostgresClient):
    """`manage.py dbshell` on the embedded server, with the psql that came with it."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        arguments, environment = super().settings_to_cmd_args_env(settings_dict, parameters)
        # A PGPASSWORD meant for another database would be sent instead of the key file's.
        return arguments, {**(environment or {}), "PGPASSWORD": "", "PGREQUIREAUTH": "scram-sha-256"}

    def runshell(self, parameters: Iterable[str]) -> None:
        data = Path(self.connection.settings_dict["EMBEDDED_DATA"])
        launcher.ensure(data)
        self.executable_name = str(binaries.find(launcher.cluster_major(data)).folder / "psql")
        super().runshell(parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to the embedded server. A command that opens none never starts the server."""

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        launcher.ensure(Path(self.settings_dict["EMBEDDED_DATA"]))
        # Libpq reads the key file itself, so no password is in the settings or in a traceback. Empty here,
        # so that a PGPASSWORD in the environment is ignored.
        return {**super().get_connection_params(), "password": ""}
