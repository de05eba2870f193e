"""A JSON or JSON-lines file as records: bounded in memory, numbers as written. Pure.

    read_json(path) -> iterator of (position, record | InvalidLine)      an array, or a series of objects
    read_jsonl(path) -> iterator of (line_number, record | InvalidLine)  one object per line

An array is decoded element by element with the parser of json_text.py, so files and bodies follow the same
rules. After an element that breaks a rule, reading continues with the next; after broken syntax it cannot,
and the last item says so with `ends`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from apperate.kernel.json_text import DECODE_ERRORS, DECODER, explain, kind_of
from datasets.files.csv_file import InvalidLine, Lines, LineTooLong
from datasets.files.file_text import open_text

ELEMENT_CHARS_MAX = 1_000_000
CHUNK_CHARS = 1_000_000
# The longest token that JSON reads as a unit: an escape like \ud83d\ude00, or -Infinity.
LITERAL_CHARS_MAX = 16
_SPACE = re.compile(r"[ \t\r\n]*")
# Finds the end of an element that breaks a rule of DECODER but not JSON's grammar.
_LENIENT = json.JSONDecoder(parse_int=str, parse_float=str)


class _Broken(ValueError):
    """Raised where the text stops being JSON, with the offset in the window."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.offset = offset


class _Window:
    """The part of a file currently being read, and its position."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.text = ""
        self.at = 0
        self.at_end = False
        self._line, self._column = 1, 1

    def fill(self) -> None:
        """Drop what was read and append the next chunk."""
        self._line, self._column = self.place(self.at)
        chunk = self._file.read(CHUNK_CHARS)
        self.text, self.at, self.at_end = self.text[self.at :] + chunk, 0, not chunk

    def place(self, offset: int) -> tuple[int, int]:
        """The file's line and column, both from 1, of an offset in the window."""
        lines = self.text.count("\n", 0, offset)
        if not lines:
            return self._line, self._column + offset
        return self._line + lines, offset - self.text.rfind("\n", 0, offset)

    def peek(self) -> str:
        """The next character that is not white space, "" at the end of the file."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or self.at_end:
                return self.text[self.at : self.at + 1]
            self.fill()

    def element(self) -> tuple[Any, str | None]:
        """The next value, or the rule it breaks; raises _Broken."""
        self.peek()
        while True:
            try:
                value, reason, end = self._decode()
                if end < len(self.text) or self.at_end:
                    self.at = end
                    return value, reason
            except json.JSONDecodeError as error:
                if self.at_end or not self._may_be_cut(error):
                    raise _Broken(error.msg.removesuffix(" at"), error.pos) from None
            except RecursionError as error:
                raise _Broken(explain(error), self.at) from None
            if len(self.text) - self.at > ELEMENT_CHARS_MAX:
                raise _Broken(
                    f"either the syntax is wrong or a record has more than {ELEMENT_CHARS_MAX:,} characters",
                    self.at,
                )
            self.fill()

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether the error may only mean that the window ends within the element."""
        return error.msg.startswith("Unterminated") or error.pos > len(self.text) - LITERAL_CHARS_MAX

    def _decode(self) -> tuple[Any, str | None, int]:
        try:
            value, end = DECODER.raw_decode(self.text, self.at)
            return value, None, end
        except (json.JSONDecodeError, RecursionError):
            raise
        except DECODE_ERRORS as error:
            _, end = _LENIENT.raw_decode(self.text, self.at)
            return None, explain(error), end


def read_json(path: Path) -> Iterator[tuple[int, dict[str, Any] | InvalidLine]]:
    """The elements of a JSON array, or of consecutive objects, with their position from 1."""
    position = 0
    with open_text(path) as file:
        window = _Window(file)
        try:
            in_array = window.peek() == "["
            if in_array:
                window.at += 1
            while _has_next(window, in_array=in_array, is_first=position == 0):
                position += 1
                value, reason = window.element()
                if reason is None and not isinstance(value, dict):
                    reason = f"received {kind_of(value)}, needed an object"
                yield position, value if reason is None else InvalidLine(position, reason)
        except _Broken as broken:
            line, column = window.place(broken.offset)
            reason = f"not valid JSON at line {line}, column {column}: {broken}"
            yield position, InvalidLine(max(position, 1), reason, ends=True)


def _has_next(window: _Window, *, in_array: bool, is_first: bool) -> bool:
    """Whether an element follows; consumes the comma before it or the bracket after the last one."""
    following = window.peek()
    if not in_array:
        return following != ""
    if following == "]":
        window.at += 1
        if window.peek():
            raise _Broken("text follows the end of the array", window.at)
        return False
    if is_first:
        return True
    if following != ",":
        raise _Broken("a comma or the end of the array is missing", window.at)
    window.at += 1
    return True


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any] | InvalidLine]]:
    """The object on each non-blank line, with the line's number."""
    with open_text(path) as file:
        lines = Lines(file)
        while True:
            try:
                line = next(lines)
            except StopIteration:
                return
            except LineTooLong as error:
                yield lines.number, InvalidLine(lines.number, str(error))
                continue
            if line.strip():
                yield lines.number, _record(line.strip(), lines.number)


def _record(text: str, number: int) -> dict[str, Any] | InvalidLine:
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        return InvalidLine(number, f"not valid JSON at column {error.colno}: {error.msg.removesuffix(' at')}")
    except DECODE_ERRORS as error:
        return InvalidLine(number, f"not valid JSON: {explain(error)}")
    if isinstance(value, dict):
        return value
    return InvalidLine(number, f"received {kind_of(value)}, needed an object")
