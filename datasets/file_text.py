"""Whether a file is text that can be stored, decided on all of it before a row is read. Pure."""

import codecs
from pathlib import Path

from apperate.refusals import Refusal
from datasets.json_text import bad_body

SAMPLE_BYTES = 65_536
CHUNK_BYTES = 1 << 20
PARQUET_MAGIC = b"PAR1"
# First bytes of what people send in place of text, and what to do about it.
_OTHER_FORMS = (
    (b"PK\x03\x04", "a ZIP archive or a workbook", "Save it as CSV and send that."),
    (b"\x1f\x8b", "compressed with gzip", "Send it uncompressed."),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Send it uncompressed."),
    (codecs.BOM_UTF16_LE, "UTF-16 text", "Save it as UTF-8."),
    (codecs.BOM_UTF16_BE, "UTF-16 text", "Save it as UTF-8."),
)


def is_parquet(path: Path) -> bool:
    """Whether a file says of itself that it is Parquet."""
    with path.open("rb") as file:
        return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


def read_sample(path: Path) -> tuple[str, bool]:
    """The beginning of a file as text, and whether that is all of it."""
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES + 1)
    text = sample[:SAMPLE_BYTES].removeprefix(codecs.BOM_UTF8).decode(errors="ignore")
    return text, len(sample) <= SAMPLE_BYTES


def file_fault(path: Path) -> Refusal | None:
    """Why a file is not text to store: empty, compressed, not UTF-8, or with NUL bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line, is_blank = 0, 1, True
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if offset == 0:
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
