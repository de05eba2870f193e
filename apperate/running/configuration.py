"""Reads values from the environment; a wrong one raises one clear sentence."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from apperate.kernel.hosts import is_loopback

Network = IPv4Network | IPv6Network
UNIX = "unix:"  # what HOST begins with when a path follows
URL_FILE = "url"  # in the data directory, written by `manage.py up` while it runs
METRICS_HOST, METRICS_TOKEN_MIN = "127.0.0.1", 16
TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def flag(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    """True or False; 1, true, yes, on and 0, false, no, off are accepted."""
    text = environ.get(name)
    if text is None:
        return default
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={text!r} is neither yes nor no: use 1 or 0.")


def integer(environ: Mapping[str, str], name: str, *, default: int, low: int, high: int) -> int:
    """A whole number from low to high, inclusive."""
    text = environ.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={text!r} is not a whole number from {low} to {high}.") from None
    if not low <= value <= high:
        raise ImproperlyConfigured(
            f"{name}={value} is out of range: use a whole number from {low} to {high}."
        )
    return value


def choice(environ: Mapping[str, str], name: str, *, default: str, among: tuple[str, ...]) -> str:
    """One of a few words."""
    text = environ.get(name, "").strip() or default
    if text not in among:
        raise ImproperlyConfigured(f"{name}={text!r} is not known: use {' or '.join(among)}.")
    return text


def networks(environ: Mapping[str, str], name: str) -> tuple[Network, ...]:
    """Networks like 10.0.0.0/8, separated by commas; a bare address is a network of one."""
    found = []
    for text in filter(None, map(str.strip, environ.get(name, "").split(","))):
        try:
            found.append(ip_network(text))
        except ValueError:
            raise ImproperlyConfigured(f"{name}: {text!r} is no network, like 10.0.0.0/8.") from None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where the figures for Prometheus are published; nowhere unless there is a port or a token."""

    host: str = METRICS_HOST
    port: int = 0
    token: str = ""

    @property
    def is_on(self) -> bool:
        return bool(self.port or self.token)

    @property
    def on_main_port(self) -> bool:
        return bool(self.token and not self.port)


def metrics(environ: Mapping[str, str]) -> Metrics:
    """APPERATE_METRICS_PORT, APPERATE_METRICS_HOST and APPERATE_METRICS_TOKEN."""
    host = environ.get("APPERATE_METRICS_HOST", "") or METRICS_HOST
    port = integer(environ, "APPERATE_METRICS_PORT", default=0, low=0, high=65_535)
    token = environ.get("APPERATE_METRICS_TOKEN", "")
    if token and (
        len(token) < METRICS_TOKEN_MIN or not token.isascii() or not token.isprintable() or " " in token
    ):
        raise ImproperlyConfigured(
            f"APPERATE_METRICS_TOKEN has {len(token)} characters: use {METRICS_TOKEN_MIN} or more, printable "
            "and without spaces, such as `openssl rand -hex 24` makes."
        )
    if port and not token and not is_loopback(host):
        raise ImproperlyConfigured(
            f"APPERATE_METRICS_HOST={host} is open to the network: set APPERATE_METRICS_TOKEN too, or leave "
            f"it at {METRICS_HOST}."
        )
    return Metrics(host, port, token)


def public_url(environ: Mapping[str, str], data_dir: Path) -> str:
    """The URL people and programs use, without a trailing slash.

    APPERATE_PUBLIC_URL, else HOST and PORT, else the URL that a running server wrote to the same data
    directory, so that commands print links that work.
    """
    text = environ.get("APPERATE_PUBLIC_URL", "")
    if not text and not environ.get("PORT") and not environ.get("HOST"):
        with suppress(OSError):
            text = (data_dir / URL_FILE).read_text().strip()
    if not text:
        host = environ.get("HOST", "") or "127.0.0.1"
        # Compared, not bound.
        host = "127.0.0.1" if host in {"0.0.0.0", "::"} or host.startswith(UNIX) else host  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{environ.get('PORT', '') or '8000'}"
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
        raise ImproperlyConfigured(
            f"APPERATE_PUBLIC_URL={text!r} is not valid: use https://host or http://host:port, no path."
        )
    return f"{parts.scheme}://{parts.netloc}"


def secret_key(environ: Mapping[str, str], data_dir: Path) -> str:
    """The key that signs sessions: from the environment, else made once and stored in a file of mode 0600."""
    if text := environ.get("APPERATE_SECRET_KEY"):
        return text
    path = data_dir / "session.key"
    try:
        return path.read_text() if path.exists() else _made_key(path)
    except OSError as error:
        raise ImproperlyConfigured(
            f"{path} can be neither read nor made: {error.strerror}. Needed: APPERATE_DATA_DIR, a folder of "
            "this account with some room, or APPERATE_SECRET_KEY."
        ) from None


def _made_key(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    try:
        draft.write_text(secrets.token_urlsafe(50))
        os.link(draft, path)  # Fails when another process was first: then its key counts.
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text()
