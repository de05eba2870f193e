"""Encryption at rest: token values, and the secrets of signing, webhooks and second factors.

Each is bound to its row; a second factor only to its purpose, because allauth does not say which row it is.

    seal_value(), unseal_value()                  the value of a secret token
    seal_signing_secret(), unseal_signing_secret()
    seal_webhook_secret(), unseal_webhook_secret()
    seal_factor(), unseal_factor()                the seed of a second factor's codes
    keys()                                        the installation's key ring, read once per process

A secret under a key that this process does not know makes it read the ring once more, so a running worker
notices a change of keys. Source: docs/operating.md.
"""

import hashlib
import os
from base64 import b64decode, b64encode
from functools import cache

from django.conf import settings

from apperate.kernel import keyring
from apperate.kernel.keyring import UnknownKey, UnreadableSecret


@cache
def keys() -> keyring.KeyRing:
    """The installation's key ring. Raises keyring.BadKeys when its keys cannot be used."""
    return keyring.load(os.environ, settings.DATA_DIR)


def seal_value(value: str, *, public_id: str) -> bytes:
    return keys().encrypt(value, bound_to=public_id)


def unseal_value(blob: bytes | memoryview | None, *, public_id: str, digest: bytes | memoryview) -> str:
    """The value of a secret token, verified against its SHA-256.

    Raises UnreadableSecret, also when the value is another one of that token.
    """
    value = _decrypt(blob, bound_to=public_id)
    if hashlib.sha256(value.encode()).digest() != bytes(digest):
        raise UnreadableSecret("The stored secret belongs to another row.")
    return value


def seal_signing_secret(secret: str, *, public_id: str) -> bytes:
    return keys().encrypt(secret, bound_to=signing_row(public_id))


def unseal_signing_secret(blob: bytes | memoryview | None, *, public_id: str) -> str:
    """The signing secret of a token. Raises UnreadableSecret."""
    return _decrypt(blob, bound_to=signing_row(public_id))


def signing_row(public_id: str) -> str:
    """What a token's signing secret is bound to: the same token's value decrypts nowhere else."""
    return f"{public_id}/signing"


def seal_webhook_secret(secret: str, *, workspace_id: int) -> bytes:
    return keys().encrypt(secret, bound_to=webhook_row(workspace_id))


def unseal_webhook_secret(blob: bytes | memoryview | None, *, workspace_id: int) -> str:
    """The secret that signs messages to a workspace's webhook. Raises UnreadableSecret."""
    return _decrypt(blob, bound_to=webhook_row(workspace_id))


def webhook_row(workspace_id: int) -> str:
    return f"workspace {workspace_id}/webhook"


FACTOR_ROW = "second factor"
FACTOR_MARK = "sealed:"  # Unmarked texts were stored before there was a mark; reencrypt() seals them.


def seal_factor(text: str) -> str:
    return FACTOR_MARK + b64encode(keys().encrypt(text, bound_to=FACTOR_ROW)).decode()


def unseal_factor(sealed: str) -> str:
    """The original text. Raises UnreadableSecret."""
    if not sealed.startswith(FACTOR_MARK):
        return sealed
    return _decrypt(factor_blob(sealed), bound_to=FACTOR_ROW)


def factor_blob(sealed: str) -> bytes:
    """The encrypted bytes of a sealed text; empty for one that is not sealed or is damaged."""
    try:
        return b64decode(sealed.removeprefix(FACTOR_MARK), validate=True)
    except ValueError:
        return b""


def _decrypt(blob: bytes | memoryview | None, *, bound_to: str) -> str:
    try:
        return keys().decrypt(blob or b"", bound_to=bound_to)
    except UnknownKey:
        keys.cache_clear()
        return keys().decrypt(blob or b"", bound_to=bound_to)
    except (keyring.BadKeys, OSError) as error:
        raise UnreadableSecret(f"The key ring cannot be used: {error}") from error
