"""Unpacks a gzipped body, with limits on size, ratio and number of members. Pure.

    unpack(packed, plain, bytes_max=…) -> Refusal | None
    grows_too_much(came_out, packed_bytes) -> bool      the limit that every compressed format shares

Bombs are detected by what comes out, never by what a header promises. What is inside is not unpacked a
second time. Raises OSError when the disk is full. Source: docs/security-checks.md, S36.
"""

import zlib
from collections.abc import Callable
from pathlib import Path

from apperate.kernel.refusals import Refusal

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 256 * 1024
RATIO_MAX = 200
# Short texts may repeat freely; the ratio applies beyond this size.
RATIO_FREE_BYTES = 16_000_000
# Each member has a start-up cost: a body of empty ones is work without output.
MEMBERS_MAX = 10_000
_GZIP = 16 + zlib.MAX_WBITS


def is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip does."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def grows_too_much(came_out: int, packed_bytes: int) -> bool:
    """Whether more bytes came out than the packed size allows."""
    return came_out > RATIO_FREE_BYTES and came_out > packed_bytes * RATIO_MAX


def unpack(
    packed: Path,
    plain: Path,
    *,
    bytes_max: int,
    allows: Callable[[int], Refusal | None] = lambda came_out: None,
) -> Refusal | None:
    """Write a gzip file's content, at most bytes_max, all members in sequence. Constant memory.

    `allows` is called for each part with the bytes so far, and says whether there is room for more.
    """
    taken = written = 0
    members = 1
    with packed.open("rb") as source, plain.open("wb") as target:
        member = zlib.decompressobj(_GZIP)
        waiting = b""
        while waiting or (chunk := source.read(CHUNK_BYTES)):
            if not waiting:
                waiting, taken = chunk, taken + len(chunk)
            if member.eof:
                member, members = zlib.decompressobj(_GZIP), members + 1
                if members > MEMBERS_MAX:
                    return _too_many_members()
            try:
                part = member.decompress(waiting, CHUNK_BYTES)
            except zlib.error:
                return _damaged()
            waiting = member.unused_data if member.eof else member.unconsumed_tail
            written += target.write(part)
            if written > bytes_max:
                return _too_large(bytes_max)
            if grows_too_much(written, taken):
                return _bomb(written, taken)
            if part and (refusal := allows(written)):
                return refusal
        while not member.eof and (part := member.decompress(b"", CHUNK_BYTES)):
            written += target.write(part)
        return None if member.eof else _damaged()


def _damaged() -> Refusal:
    return Refusal(
        "invalid-values",
        "The gzip body is cut off or damaged.",
        check="body",
        needed="a whole gzip file, or the file uncompressed",
    )


def _too_large(bytes_max: int) -> Refusal:
    return Refusal(
        "body-too-large",
        f"The file in the gzip body has more than {bytes_max:,} bytes.",
        check="body",
        received=f"more than {bytes_max:,} bytes uncompressed",
        needed=f"at most {bytes_max:,} bytes uncompressed",
    )


def _bomb(written: int, taken: int) -> Refusal:
    return Refusal(
        "body-too-large",
        f"The gzip body grows to more than {RATIO_MAX} times its size.",
        check="body",
        received=f"{written:,} bytes out of {taken:,}",
        needed=f"at most {RATIO_MAX} times the size: the file uncompressed, or several smaller files",
    )


def _too_many_members() -> Refusal:
    return Refusal(
        "body-too-large",
        f"The gzip body is made of more than {MEMBERS_MAX:,} parts.",
        check="body",
        received=f"more than {MEMBERS_MAX:,} gzip members",
        needed=f"at most {MEMBERS_MAX:,} members: compress the file as a whole",
    )
