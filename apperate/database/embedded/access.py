"""Access to the embedded database: its roles' passwords in a key file, and the rules that require them.

Both files are beside the data folder, not in it: root gives that folder to the account the server runs as,
which could replace them. Passwords never leave the key file for a process of that account: libpq reads the
file in the client, and the server gets SCRAM verifiers, from which passwords cannot be recovered.
"""

import base64
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apperate.database.embedded.binaries import EmbeddedPostgresError

logger = logging.getLogger("apperate.database.embedded.launcher")

OWNER, APP = "apperate_owner", "apperate_app"
ROLES = (OWNER, APP)
# Libpq's form of a password file: host, port, database, role, password.
KEY_LINE = re.compile(r"\*:\*:\*:([a-z_]+):([A-Za-z0-9_-]{43,})")
KEY_BYTES_MAX = 10_000
# PostgreSQL's default; it exists to slow guessing down, and these passwords cannot be guessed.
SCRAM_ITERATIONS = 4096
RULES = """\
# Written by Apperate at each start of its database, and read in place of the cluster's own pg_hba.conf.
# There is no TCP. The superuser cannot log in at all; everybody else needs a password. The log is kept aside
# by its owner, where APPERATE_WAL_ARCHIVE says so.
local  all          postgres        reject
local  all          all             scram-sha-256
local  replication  apperate_owner  scram-sha-256
"""


def key_file(data: Path) -> Path:
    """The passwords of the roles, readable only by the account that runs Apperate; also a PGPASSFILE."""
    return data.with_name(f"{data.name}.key")


def rules_file(data: Path) -> Path:
    """The server's pg_hba.conf: the server can read it, but not change it when root started it."""
    return data.with_name(f"{data.name}.hba.conf")


def connection_options(data: Path) -> dict[str, Any]:
    """Libpq's parameters that open the database. A server that asks for no password is not trusted."""
    return {"passfile": str(key_file(data)), "require_auth": "scram-sha-256"}


def make_key(data: Path) -> None:
    """Make the key file if it is missing or incomplete; called under the start lock.

    The cluster may then have other passwords, or none: the start that follows notices and sets them.
    """
    path = key_file(data)
    with _explained(path):
        if _read(path) is not None:
            return
        text = "".join(f"*:*:*:{role}:{secrets.token_urlsafe(32)}\n" for role in ROLES)
        put(path, text, mode=0o600)
    if (data / "pg").exists():
        logger.warning("The embedded database had no key file: new passwords are in %s.", path)


def write_rules(data: Path) -> None:
    """Write the rules for the server's next start, readable by its account."""
    with _explained(rules_file(data)):
        put(rules_file(data), RULES, mode=0o644)


def password_statements(data: Path) -> str:
    """The SQL that sets each role's password from the key file, as a verifier."""
    passwords = _read(key_file(data)) or {}
    return "".join(
        f"ALTER ROLE {role} PASSWORD '{scram_verifier(password)}';\n" for role, password in passwords.items()
    )


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """The form in which PostgreSQL stores an ASCII password. Source: RFC 5802 section 3, RFC 7677."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    client_key, server_key = (hmac.digest(salted, word, "sha256") for word in (b"Client Key", b"Server Key"))
    stored_key = hashlib.sha256(client_key).digest()
    salt_text, stored, server = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt_text}${stored}:{server}"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{path}, a file beside the embedded database, cannot be used: {error.strerror}. Run as the "
            "account that owns it, or set APPERATE_DATA_DIR to a folder of your own, or set DATABASE_URL."
        ) from error


def _read(path: Path) -> dict[str, str] | None:
    """The password of each role; None when the file is missing or incomplete. Its mode is corrected.

    Raises EmbeddedPostgresError when another account made the file, and so may know the passwords.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if found.st_uid not in _owners(path) or not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise EmbeddedPostgresError(
                f"The key file of the embedded database, {path}, is of account number {found.st_uid}, or no "
                f"plain file. Needed: a file of account number {os.geteuid()}. Run as the account that owns "
                "it, or give it to this one, or remove it: then the database gets new passwords."
            )
        if found.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
            logger.warning(
                "%s could be opened by others: its mode is 0600 again. For new passwords stop Apperate, "
                "remove the file, and start again.", path,
            )  # fmt: skip
        text = file.read(KEY_BYTES_MAX).decode(errors="replace")
    passwords = {line[1]: line[2] for line in map(KEY_LINE.fullmatch, text.splitlines()) if line}
    return passwords if passwords.keys() == set(ROLES) else None


def _owners(path: Path) -> set[int]:
    """The trusted owners of a file: this account, and for root also the folder's owner."""
    return {os.geteuid()} | ({path.parent.stat().st_uid} if os.geteuid() == 0 else set())


def put(path: Path, text: str, *, mode: int) -> None:
    """Write the file beside its place and rename it. Root gives it to the folder's owner.

    So the account that usually runs Apperate can go on after root has run a command.
    """
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(draft, flags, 0o600), "w") as file:
        if os.geteuid() == 0:
            folder = path.parent.stat()
            os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
