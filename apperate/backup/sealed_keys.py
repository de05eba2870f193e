"""The key files inside a backup, sealed by a passphrase: scrypt makes the key, AES-256-GCM seals.

    collect(environ, data_dir) -> Mapping[str, str]       name of a key file -> its text
    seal(keys, passphrase, bound_to) -> bytes
    unseal(sealed, passphrase, bound_to) -> Mapping[str, str]       raises Unusable

Source: RFC 7914 (scrypt); its cost is the one that OWASP's Password Storage Cheat Sheet names: N = 2^17,
r = 8, p = 1, which takes 128 MB for about half a second.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from apperate.backup.manifest import Unusable
from apperate.kernel import keyring

COST, BLOCK, LANES = 1 << 17, 8, 1
PASSPHRASE_CHARS_MIN = 12
PASSPHRASE_BYTES_MAX = 10_000
SESSION_KEY = "session.key"
# The demo's passwords are useful where its workspace is restored.
KEY_FILES = (keyring.KEY_FILE, SESSION_KEY, "demo.json")
VARIABLES = {keyring.KEY_FILE: keyring.KEYS_VARIABLE, SESSION_KEY: "APPERATE_SECRET_KEY"}


def collect(environ: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    """The keys that this installation uses, from the environment or from their files."""
    found = {}
    for name in KEY_FILES:
        if text := environ.get(VARIABLES.get(name, ""), "").strip():
            found[name] = text
        elif (data_dir / name).exists():
            found[name] = (data_dir / name).read_text()
    return found


def read_passphrase(path: Path) -> str:
    """The first line of a file. Raises Unusable with what is wrong with it."""
    try:
        with path.open("rb") as file:
            text = file.read(PASSPHRASE_BYTES_MAX).decode().partition("\n")[0].strip("\r")
    except OSError as error:
        raise Unusable(f"The passphrase file {path} cannot be read: {error.strerror}.") from None
    except UnicodeError:
        raise Unusable(f"The passphrase file {path} is not text in UTF-8.") from None
    return checked_passphrase(text, str(path))


def checked_passphrase(text: str, source: str) -> str:
    if len(text) < PASSPHRASE_CHARS_MIN:
        raise Unusable(
            f"The passphrase in {source} has {len(text)} characters. Needed: at least "
            f"{PASSPHRASE_CHARS_MIN}, for example from: openssl rand -base64 24"
        )
    return text


def seal(keys: Mapping[str, str], passphrase: str, *, bound_to: str) -> bytes:
    """A JSON object; `bound_to` is the id of the backup, so that keys of another one do not fit."""
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    sealed = AESGCM(_key(passphrase, salt, COST)).encrypt(nonce, json.dumps(keys).encode(), bound_to.encode())
    said: dict[str, int | str] = {"kdf": "scrypt", "cost": COST, "cipher": "AES-256-GCM"}
    for name, part in (("salt", salt), ("nonce", nonce), ("sealed", sealed)):
        said[name] = base64.b64encode(part).decode()
    return json.dumps(said).encode()


def unseal(sealed: bytes, passphrase: str, *, bound_to: str) -> dict[str, str]:
    try:
        said = json.loads(sealed)
        salt, nonce, text = (base64.b64decode(said[name]) for name in ("salt", "nonce", "sealed"))
        cost = int(said["cost"])
        if not 2 <= cost <= COST or cost & (cost - 1):
            raise ValueError(f"cost {cost}")
        keys = json.loads(AESGCM(_key(passphrase, salt, cost)).decrypt(nonce, text, bound_to.encode()))
    except InvalidTag:
        raise Unusable("The passphrase does not open the keys of this backup.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Unusable(f"The sealed keys of this backup cannot be read: {error!r}.") from None
    return {name: str(keys[name]) for name in KEY_FILES if name in keys}


def _key(passphrase: str, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=cost, r=BLOCK, p=LANES).derive(passphrase.encode())
