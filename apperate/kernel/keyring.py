"""Secrets at rest: short texts encrypted with AES-256-GCM, each bound to its row. No Django here.

The key ring comes from APPERATE_SECRET_KEYS or from a key file beside the data, never from the
database. The first key encrypts, any key decrypts. Source: docs/operating.md.
"""

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEYS_VARIABLE = "APPERATE_SECRET_KEYS"
KEY_FILE = "secret.keys"
KEY_BYTES = 32

_HOW_TO_MAKE_ONE = "Make one with: openssl rand -base64 32"

_FORMAT = b"\x01"
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = len(_FORMAT) + _KEY_ID_BYTES + _NONCE_BYTES


class UnreadableSecret(Exception):
    """A stored secret cannot be decrypted; the message says what to check, and never the secret."""


class UnknownKey(UnreadableSecret):
    """The secret was encrypted with a key that is not on the ring."""


class BadKeys(Exception):
    """The configured keys cannot be used; the message says what is needed."""


class KeyRing:
    """Encrypts with its first key and decrypts with any. Holds no state besides the keys."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise BadKeys("A key ring needs at least one key.")
        if any(len(key) != KEY_BYTES for key in keys):
            raise BadKeys(f"Each key must be {KEY_BYTES} bytes long.")
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._first_id = _key_id(keys[0])

    def encrypt(self, plain: str, *, bound_to: str) -> bytes:
        """Return format, key id, nonce and ciphertext; only the same `bound_to` decrypts them."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        head = _FORMAT + self._first_id + nonce
        return head + self._ciphers[self._first_id].encrypt(nonce, plain.encode(), head + bound_to.encode())

    def decrypt(self, blob: bytes | memoryview, *, bound_to: str) -> str:
        """Return the text. Raises UnreadableSecret when the bytes, the row or the key do not match."""
        blob = bytes(blob)
        if len(blob) < _HEAD_BYTES + _TAG_BYTES or not blob.startswith(_FORMAT):
            raise UnreadableSecret("The stored secret is damaged: it does not have the form of one.")
        head = blob[:_HEAD_BYTES]
        cipher = self._ciphers.get(head[len(_FORMAT) : -_NONCE_BYTES])
        if cipher is None:
            raise UnknownKey(
                "The stored secret was encrypted under a key that is not on the key ring. "
                f"Add the old key to {KEYS_VARIABLE}, or put the old {KEY_FILE} back."
            )
        try:
            return cipher.decrypt(head[-_NONCE_BYTES:], blob[_HEAD_BYTES:], head + bound_to.encode()).decode()
        except (InvalidTag, UnicodeDecodeError):
            raise UnreadableSecret("The stored secret was changed, or belongs to another row.") from None

    def needs_rotation(self, blob: bytes | memoryview) -> bool:
        """Whether a secret is under another key than the first, so that it should be re-encrypted."""
        return bytes(blob)[len(_FORMAT) : len(_FORMAT) + _KEY_ID_BYTES] != self._first_id


def load(environ: Mapping[str, str], data_dir: Path) -> KeyRing:
    """Return the key ring of APPERATE_SECRET_KEYS, else of the key file, which is made on first use.

    Raises BadKeys when the keys cannot be used, OSError when the file cannot be read or made.
    """
    configured = environ.get(KEYS_VARIABLE, "").strip()
    if configured:
        return KeyRing(_parse_keys(configured, source=KEYS_VARIABLE))
    path = data_dir / KEY_FILE
    if not path.exists():
        _create_key_file(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise BadKeys(f"Others can read the key file {path}. Run: chmod 600 {path}")
    return KeyRing(_parse_keys(path.read_text(encoding="ascii", errors="replace"), source=str(path)))


def new_key() -> str:
    """Return a new key in the form of APPERATE_SECRET_KEYS and of the key file."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")


def add_first_key(data_dir: Path) -> None:
    """Put a new key in front of the key file's; readers see either all of them or the old ones.

    Raises BadKeys when the file's keys cannot be used, OSError when it cannot be read or written.
    """
    load({}, data_dir)  # The existing keys must be valid: they decrypt what is stored.
    path = data_dir / KEY_FILE
    draft = _draft(path, new_key() + "\n" + path.read_text(encoding="ascii"))
    try:
        owner = path.stat()
        os.chown(draft, owner.st_uid, owner.st_gid)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _parse_keys(text: str, *, source: str) -> list[bytes]:
    """Return the keys in a list separated by commas or lines."""
    keys: list[bytes] = []
    pieces = [piece.strip() for piece in text.replace("\n", ",").split(",") if piece.strip()]
    for number, piece in enumerate(pieces, start=1):
        try:
            key = base64.b64decode(piece, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            # The key itself is never part of a message: messages end up in logs.
            raise BadKeys(f"Key {number} of {source} is not {KEY_BYTES} bytes in base64. {_HOW_TO_MAKE_ONE}")
        keys.append(key)
    if not keys:
        raise BadKeys(f"{source} holds no key. {_HOW_TO_MAKE_ONE}")
    return keys


def _create_key_file(path: Path) -> None:
    """Write a key file that appears whole or not at all; of several concurrent processes, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path, new_key() + "\n")
    try:
        try:
            # A link, unlike a rename, never replaces the file another process has just made.
            os.link(draft, path)
        except FileExistsError:
            return
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _draft(path: Path, text: str) -> Path:
    """Write a text to a file of its own beside `path`, private to this account, and sync it to disk."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _sync_folder(folder: Path) -> None:
    # A key that has encrypted something must survive a power cut.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key_id(key: bytes) -> bytes:
    """Return four bytes that identify a key and reveal nothing about it."""
    return hashlib.sha256(b"apperate key id" + key).digest()[:_KEY_ID_BYTES]
