"""PostgreSQL's client programs: which to use, and how they reach the database without a password in sight.

find("pg_dump", at_least=18) -> Program       raises Unusable, saying what there is
environment() -> dict                         libpq's variables that lead to the default database
"""
# ruff: noqa: S603 - every command is a list built here, and no part of it comes from a request.

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection
from psycopg import pq

from apperate.backup.manifest import Unusable, major
from apperate.database.embedded import binaries

VARIABLE_OF = {one.keyword.decode(): one.envvar.decode() for one in pq.Conninfo.get_defaults() if one.envvar}
KEYWORDS = {one.keyword.decode() for one in pq.Conninfo.get_defaults()}


@dataclass(frozen=True, slots=True)
class Program:
    path: Path
    version: str

    @property
    def major(self) -> int:
        return major(self.version)


def find(name: str, *, at_least: int) -> Program:
    """The program of the lowest major version that is not below `at_least`.

    The lowest, because what pg_dump of a version writes can be loaded into servers of that version and later.
    """
    folders = binaries.folders(others_too=True)
    found = [program for folder in folders if (program := _look(folder / name))]
    fitting = [program for program in found if program.major >= at_least]
    if fitting:
        return min(fitting, key=lambda program: program.major)
    there = ", ".join(sorted({program.version for program in found})) or "none"
    raise Unusable(
        f"This needs {name} {at_least} or newer, and there is {there}. Install the client programs of "
        f"PostgreSQL {at_least}, and set PG_BIN_DIR to their folder if it is an unusual one."
    )


def _look(path: Path) -> Program | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, cwd="/").stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\d+(?:\.\d+|\w+)?", said)
    return Program(path, version[0]) if version else None


def parameters() -> dict[str, Any]:
    """What psycopg and libpq need to reach the default database; starts the embedded server."""
    given = connection.get_connection_params()
    return {name: value for name, value in given.items() if name in KEYWORDS and value is not None}


def bare_environment() -> dict[str, str]:
    """What a program needs that asks no database."""
    kept = ("PATH", "HOME", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def environment() -> dict[str, str]:
    """parameters() for a program. Older versions of libpq do not know some, but they ignore variables."""
    named = {VARIABLE_OF[name]: str(value) for name, value in parameters().items() if name in VARIABLE_OF}
    return bare_environment() | named


def session(**options: Any) -> psycopg.Connection[Any]:
    """A connection of its own, without the time limits of a request."""
    made = psycopg.connect(**parameters(), **options)
    try:
        made.autocommit = True
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            made.execute(f"SET {limit} = 0")
    except BaseException:
        made.close()
        raise
    return made
