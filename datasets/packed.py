"""A body that was compressed with gzip, as the file that is in it: bounded in size and in ratio. Pure.

    unpack(packed, plain, bytes_max=…) -> Refusal | None

A bomb is noticed by what comes out, never by what a header promises. What is inside is not unpacked a
second time. Raises OSError when the disk is full. Source: security.md, S36.
"""

import zlib
from pathlib import Path

from apperate.refusals import Refusal

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 256 * 1024
RATIO_MAX = 200
# Short texts may repeat as they like; the ratio counts beyond this.
RATIO_FREE_BYTES = 16_000_000
_GZIP = 16 + zlib.MAX_WBITS


def is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip does."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def unpack(packed: Path, plain: Path, *, bytes_max: int) -> Refusal | None:
    """Write what is in a gzip file, at most bytes_max; several members follow each other. Constant memory."""
    taken = written = 0
    with packed.open("rb") as source, plain.open("wb") as target:
        member = zlib.decompressobj(_GZIP)
        waiting = b""
        while waiting or (chunk := source.read(CHUNK_BYTES)):
            if not waiting:
                waiting, taken = chunk, taken + len(chunk)
            if member.eof:
                member = zlib.decompressobj(_GZIP)
            try:
                part = member.decompress(waiting, CHUNK_BYTES)
            except zlib.error:
                return _damaged()
            waiting = member.unused_data if member.eof else member.unconsumed_tail
            written += target.write(part)
            if written > bytes_max:
                return _too_large(bytes_max)
            if written > RATIO_FREE_BYTES and written > taken * RATIO_MAX:
                return _bomb()
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


def _bomb() -> Refusal:
    return Refusal(
        "body-too-large",
        f"The gzip body grows to more than {RATIO_MAX} times its size.",
        check="body",
        received=f"a ratio above {RATIO_MAX}",
        needed="the file uncompressed, or several smaller files",
    )
