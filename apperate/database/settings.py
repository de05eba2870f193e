"""Where the data is: the database settings, built from the environment without starting anything."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from apperate.database.embedded import access, launcher

URL_FORM = "postgresql://user:password@host:5432/database, or ?host=/socket/folder in place of the host"
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Libpq's names for what Django's settings name differently.
SETTING_OF = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
# Reconnecting is given up after a second, so that the next request tries afresh; with the pool's own
# exponential delays the first answer after a one-minute outage would come half a minute late.
POOL = {
    "min_size": 1,
    "max_size": 10,
    "timeout": 0.8,
    "reconnect_timeout": 0.8,
    "max_idle": 60.0,
    "max_lifetime": 1800.0,
}
TCP_OPTIONS = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5000,
}


def databases(data_dir: Path, environ: Mapping[str, str], *, pooled: bool) -> dict[str, dict[str, Any]]:
    """The value of settings.DATABASES: DATABASE_URL if it is given, else the embedded server.

    APPERATE_DATABASE_ROLE=owner connects as the role that may change tables. DATABASE_REPLICA_URL adds
    "replica". Raises ImproperlyConfigured for an invalid URL; the URL itself, which holds a password,
    is never shown.
    """
    as_owner = environ.get("APPERATE_DATABASE_ROLE") == "owner"
    variable = "DATABASE_OWNER_URL" if as_owner and environ.get("DATABASE_OWNER_URL") else "DATABASE_URL"
    if environ.get("DATABASE_OWNER_URL") and not environ.get("DATABASE_URL"):
        raise ImproperlyConfigured(
            "DATABASE_OWNER_URL needs DATABASE_URL beside it, the URL of the role that serves requests."
        )
    if environ.get(variable):
        default = _from_url(variable, environ[variable])
    else:
        default = _embedded(data_dir / "db", access.OWNER if as_owner else access.APP)
    found = {"default": _with_limits(default, as_owner=as_owner, pooled=pooled)}
    if environ.get("DATABASE_REPLICA_URL"):
        replica = _from_url("DATABASE_REPLICA_URL", environ["DATABASE_REPLICA_URL"])
        found["replica"] = _with_limits(replica, as_owner=False, pooled=pooled)
        found["replica"]["TEST"] = {"MIRROR": "default"}
    return found


def _embedded(data: Path, user: str) -> dict[str, Any]:
    """The settings of the embedded server; the backend starts it at the first connection."""
    return {
        "ENGINE": "apperate.database.embedded",
        "NAME": launcher.DATABASE,
        "USER": user,
        "PASSWORD": "",
        "HOST": str(launcher.socket_dir(data)),
        "PORT": launcher.PORT,
        "OPTIONS": access.connection_options(data.absolute()),
        "EMBEDDED_DATA": str(data.absolute()),
    }


def _from_url(variable: str, url: str) -> dict[str, Any]:
    """The settings from a libpq URL. Raises ImproperlyConfigured, naming the variable and the form."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ImproperlyConfigured(f"{variable} must begin with postgresql://. Needed: {URL_FORM}.")
    try:
        given = {name: value for name, value in conninfo_to_dict(url).items() if value not in (None, "")}
    except (psycopg.ProgrammingError, UnicodeError):
        # Libpq's message repeats the URL with its password, so it is not passed on.
        raise ImproperlyConfigured(
            f"{variable} cannot be read. Needed: {URL_FORM}, with reserved characters percent-encoded "
            "and only libpq's parameters after the question mark."
        ) from None
    for name, what in (("host", "host"), ("dbname", "database name")):
        if name not in given:
            raise ImproperlyConfigured(f"{variable} has no {what}. Needed: {URL_FORM}.")
    for port in str(given.get("port", "5432")).split(","):
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            raise ImproperlyConfigured(f"{variable} has port {port!r}. Needed: a number from 1 to 65535.")
    if given.get("sslmode", "prefer") not in SSL_MODES:
        raise ImproperlyConfigured(
            f"{variable} has sslmode {given['sslmode']!r}. Needed: one of {', '.join(SSL_MODES)}."
        )
    settings: dict[str, Any] = {
        "ENGINE": "apperate.database.pooled",
        "PASSWORD": "",
        "USER": "",
        "PORT": "",
    }
    settings |= {SETTING_OF[name]: str(value) for name, value in given.items() if name in SETTING_OF}
    settings["OPTIONS"] = {name: value for name, value in given.items() if name not in SETTING_OF}
    return settings


def _with_limits(settings: dict[str, Any], *, as_owner: bool, pooled: bool) -> dict[str, Any]:
    """The same settings with time limits, so that no request waits for a database that hangs.

    The URL's own parameters win, except `options`: ours come last, so that the limits and the search
    path hold. A migration may take longer than a request, so the owner has no statement_timeout.
    """
    given = settings["OPTIONS"]
    limits = {
        "statement_timeout": "0" if as_owner else "5s",
        "lock_timeout": "2s",
        "idle_in_transaction_session_timeout": "10s",
        "search_path": "public,pg_temp",
    }
    flags = [given["options"]] if given.get("options") else []
    flags += [f"-c {name}={value}" for name, value in limits.items()]
    is_socket = settings["HOST"].startswith("/")
    options = {
        "connect_timeout": 2,
        "application_name": "apperate",
        **({} if is_socket else TCP_OPTIONS),
        **given,
        "options": " ".join(flags),
    }
    if pooled:
        options["pool"] = dict(POOL)
    # A pool keeps its own connections and drops those that died; otherwise each request opens and closes one.
    return {**settings, "OPTIONS": options, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False}
