"""How an answer's bytes travel: their ETag and their compression. Pure.

    etag_of(body, *more, key=…) -> str              weak, from the content; with a key unguessable
    is_unchanged(if_none_match, etag) -> bool       whether the client already has these bytes
    encoding_for(accept_encoding) -> str            "zstd", "gzip" or "" (as it is)
    compressed(body, encoding) -> bytes

Source: docs/query-parameters.md; RFC 9110, 8.8.3 and 12.5.3.
"""

import gzip
import hashlib

import zstandard

COMPRESSED_BYTES_MIN = 1_024
ZSTD_LEVEL, GZIP_LEVEL = 3, 5
ENCODINGS = ("zstd", "gzip")  # the better one first


def etag_of(body: bytes, *more: str, key: bytes = b"") -> str:
    """The weak ETag of a body and of the rest of the answer (its content type, its next page).

    With a `key` (at most 64 bytes) only an answer reveals it: for data that must be paid for.
    """
    digest = hashlib.blake2b(body, digest_size=16, key=key)
    for text in more:
        digest.update(b"\0" + text.encode())
    return f'W/"{digest.hexdigest()}"'


def is_unchanged(if_none_match: str, etag: str, *, takes_any: bool = True) -> bool:
    """Whether an If-None-Match header names this ETag; weak and strong forms count as equal.

    takes_any=False: `*` matches none, because its sender need not have seen the answer.
    """
    named = {text.strip().removeprefix("W/") for text in if_none_match.split(",")}
    return (takes_any and "*" in named) or etag.removeprefix("W/") in named


def encoding_for(accept_encoding: str) -> str:
    """The encoding that the client weights highest; of equals, the better one here."""
    weights: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        name, _, parameter = (piece.strip() for piece in part.partition(";"))
        try:
            weights[name] = float(parameter.removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
    best = max(ENCODINGS, key=lambda name: weights.get(name, 0.0))
    return best if weights.get(best, 0.0) > 0 else ""


def compressed(body: bytes, encoding: str) -> bytes:
    """The body in one of ENCODINGS."""
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(body)
    return gzip.compress(body, GZIP_LEVEL, mtime=0)
