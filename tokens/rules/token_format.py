"""Token values: made, parsed, digested, masked. Pure: no Django here.

A value is `pk_` or `sk_`, 32 lower-case hex characters from a CSPRNG, then 8 hex characters of
CRC-32 over everything before them, so that a typo is refused without a query.
Source: docs/api.md, Tokens.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote


class TokenKind(StrEnum):
    """The two kinds of token; a publishable one may be public, a secret one never leaves a server."""

    PUBLISHABLE = "publishable"
    SECRET = "secret"  # noqa: S105 - the name of a kind, not a password

    @property
    def prefix(self) -> str:
        return "pk_" if self is TokenKind.PUBLISHABLE else "sk_"


RANDOM_CHARACTERS = 32
CHECKSUM_CHARACTERS = 8
VALUE_CHARACTERS = 3 + RANDOM_CHARACTERS + CHECKSUM_CHARACTERS
LEGACY_CHARACTERS = 3 + RANDOM_CHARACTERS

# For secret scanners and their settings: finds a value or a signing secret anywhere in a text.
VALUE_PATTERN = r"\b(?:[ps]k|sig)_[0-9a-f]{40}\b"
SIGNING_PREFIX = "sig_"

# Crockford's base 32 in lower case: no i, l, o, u, so an id can be read out over the telephone.
_PUBLIC_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_HEX = frozenset("0123456789abcdef")
_KIND_OF_PREFIX = {kind.prefix: kind for kind in TokenKind}

# Wider than VALUE_PATTERN on purpose: a log line may hold a truncated, mistyped, upper-case or
# percent-encoded value, which has no word boundary after "%3D" or "%20".
_VALUE_IN_TEXT = re.compile(
    r"(?:(?:[ps]|%[57][03])(?:k|%[46]b)|(?:s|%[57]3)(?:i|%[46]9)(?:g|%[46]7))"
    r"(?:_|%5f)(?:[0-9a-z]|%[3-7][0-9a-f]){12,}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ParsedValue:
    """A well-formed value. One without a checksum is only valid for a token imported with its old value."""

    text: str
    kind: TokenKind
    has_checksum: bool


def make(kind: TokenKind) -> str:
    """Return a new value of this kind; 128 random bits, never the same twice."""
    body = kind.prefix + secrets.token_hex(RANDOM_CHARACTERS // 2)
    return body + _checksum(body)


def parse(value: str) -> ParsedValue | None:
    """Return the kind of value this is, or None when it is malformed and not worth a query.

    Old publishable values have no checksum; the look-up decides whether one was imported. An old
    secret value is malformed: secrets are never imported.
    """
    kind = _KIND_OF_PREFIX.get(value[:3])
    if kind is None or not _HEX.issuperset(value[3:]):
        return None
    if len(value) == VALUE_CHARACTERS:
        body = value[:-CHECKSUM_CHARACTERS]
        return ParsedValue(value, kind, has_checksum=True) if value == body + _checksum(body) else None
    if len(value) == LEGACY_CHARACTERS and kind is TokenKind.PUBLISHABLE:
        return ParsedValue(value, kind, has_checksum=False)
    return None


def digest(value: str) -> bytes:
    """Return the SHA-256 of a value, 32 bytes: what is stored and looked up."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()


def mask(value: str) -> str:
    """Return a value safe to show: `pk_3f9c1d7e52a…c58e`, and for a secret `sk_…c58e`.

    A malformed value shows less: it may be a mistyped secret, or no token at all.
    """
    kind = _KIND_OF_PREFIX.get(value[:3].lower())
    if kind is None and value[: len(SIGNING_PREFIX)].lower() == SIGNING_PREFIX:
        return f"{SIGNING_PREFIX}…{value[-4:]}" if len(value) > LEGACY_CHARACTERS else f"{SIGNING_PREFIX}…"
    if kind is None:
        return "…" if value else ""
    if len(value) < LEGACY_CHARACTERS:
        return f"{kind.prefix}…"
    shown = 3 + 11 if kind is TokenKind.PUBLISHABLE else 3
    return f"{value[:shown]}…{value[-4:]}"


def mask_in_text(text: str) -> str:
    """Return the text with every token value in it masked, percent-encoded ones too."""
    return _VALUE_IN_TEXT.sub(lambda found: mask(unquote(found[0], errors="replace")), text)


def new_public_id() -> str:
    """Return a new public id such as `tok_8f3k2m9q`.

    40 random bits may collide: the table's unique constraint decides, and the caller retries.
    """
    return "tok_" + "".join(secrets.choice(_PUBLIC_ID_ALPHABET) for _ in range(8))


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
