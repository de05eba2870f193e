"""Whether a file is storable text, decided from all of it before any row is read. Pure."""

import codecs
import io
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from apperate.kernel.json_text import bad_body
from apperate.kernel.refusals import Refusal

SAMPLE_BYTES = 65_536
CHUNK_BYTES = 1 << 20
PARQUET_MAGIC = b"PAR1"
# First bytes of files that people send instead of text, and what to do about each.
_COMPRESSED = (
    (b"PK\x03\x04", "a ZIP archive or a workbook", "Save it as CSV and send that."),
    (b"\x1f\x8b", "compressed with gzip twice", "Compress it once."),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Use gzip, or send it uncompressed."),
    (b"BZh", "compressed with bzip2", "Use gzip, or send it uncompressed."),
    (b"\xfd7zXZ\0", "compressed with xz", "Use gzip, or send it uncompressed."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Use gzip, or send it uncompressed."),
)
_OTHER_FORMS = (
    (codecs.BOM_UTF16_LE, "UTF-16 text", "Save it as UTF-8."),
    (codecs.BOM_UTF16_BE, "UTF-16 text", "Save it as UTF-8."),
)


READ_BUFFER_BYTES = 256 * 1024


class Position:
    """How far a file has been read; other threads may look at it."""

    def __init__(self) -> None:
        self.bytes = 0


# Set by callers that want to follow the file being read.
position: ContextVar[Position | None] = ContextVar("position", default=None)


class _Watched(io.FileIO):
    """A file that records how far it has been read."""

    def __init__(self, path: Path, seen: Position) -> None:
        super().__init__(path)
        self._seen = seen

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        self._seen.bytes = self.tell()
        return count


def open_text(path: Path) -> TextIO:
    """The file as UTF-8 text, without a byte order mark, line ends unchanged."""
    seen = position.get()
    if seen is None:
        return path.open(encoding="utf-8-sig", newline="")
    buffered = io.BufferedReader(_Watched(path, seen), READ_BUFFER_BYTES)
    return io.TextIOWrapper(buffered, encoding="utf-8-sig", newline="")


def is_parquet(path: Path) -> bool:
    """Whether a file claims to be Parquet."""
    with path.open("rb") as file:
        return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


def read_sample(path: Path) -> tuple[str, bool]:
    """The beginning of a file as text, and whether that is all of it."""
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES + 1)
    text = sample[:SAMPLE_BYTES].removeprefix(codecs.BOM_UTF8).decode(errors="ignore")
    return text, len(sample) <= SAMPLE_BYTES


def file_fault(path: Path) -> Refusal | None:
    """Why a file is not storable text: empty, compressed, not UTF-8, or containing NUL bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line, is_blank = 0, 1, True
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if offset == 0:
                for magic, what, advice in _COMPRESSED:
                    if chunk.startswith(magic):
                        return Refusal(
                            "unsupported-encoding",
                            f"The file is {what}. {advice}",
                            check="body",
                            received=what,
                            needed="CSV, JSON or Parquet, as it is or in gzip",
                        )
                for magic, what, advice in _OTHER_FORMS:
                    if chunk.startswith(magic):
                        return bad_body(f"The file is {what}. {advice}", needed="CSV or JSON as UTF-8 text")
                is_blank = not chunk.removeprefix(codecs.BOM_UTF8).strip()
            else:
                is_blank = is_blank and not chunk.strip()
            nul = chunk.find(b"\0")
            if nul >= 0:
                return _at("holds a NUL byte", offset + nul, line + chunk.count(b"\n", 0, nul))
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                start = max(error.start - pending, 0)
                return _at("is not UTF-8", offset + start, line + chunk.count(b"\n", 0, start))
            offset, line = offset + len(chunk), line + chunk.count(b"\n")
    if decoder.getstate()[0]:
        return _at("is not UTF-8", offset - 1, line)
    return bad_body("The file is empty.", needed="CSV or JSON with at least one record") if is_blank else None


def _at(fault: str, offset: int, line: int) -> Refusal:
    return bad_body(f"The file {fault}: byte {offset + 1}, in line {line}.", needed="UTF-8 text without NUL")
