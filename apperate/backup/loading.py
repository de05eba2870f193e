"""Loads a dump into an empty database inside one transaction, so that it is there whole or not at all.

    load(cursor, script)       the lines of what `pg_restore --file=-` writes

pg_restore itself sends settings that an older server does not know, and ends its transaction before the rows
could be counted. Its script has statements, blocks of rows after "COPY … FROM stdin;" until a line "\\.", and
two lines for psql alone.
"""

import re
from collections.abc import Iterable, Iterator

import psycopg
from psycopg.rows import TupleRow

COPY = re.compile(rb"COPY .* FROM stdin;\n")
END_OF_ROWS = b"\\.\n"
BLOCK_BYTES = 1 << 17
# A setting that came after the oldest server, and limits what is unlimited by default; and psql's own lines.
SKIPPED = (b"SET transaction_timeout = ", b"\\restrict ", b"\\unrestrict ")


def load(cursor: psycopg.Cursor[TupleRow], script: Iterable[bytes]) -> None:
    lines = iter(script)
    statements: list[bytes] = []
    for line in lines:
        if COPY.fullmatch(line):
            _run(cursor, statements)
            with cursor.copy(line) as copy:
                for block in _rows(lines):
                    copy.write(block)
        elif not line.startswith(SKIPPED):
            statements.append(line)
    _run(cursor, statements)


def _run(cursor: psycopg.Cursor[TupleRow], statements: list[bytes]) -> None:
    text = b"".join(statements)
    statements.clear()
    if text.strip():
        cursor.execute(text)


def _rows(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The rows up to the mark of their end, in blocks."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        if line == END_OF_ROWS:
            break
        block.append(line)
        size += len(line)
        if size >= BLOCK_BYTES:
            yield b"".join(block)
            block, size = [], 0
    else:
        raise EOFError("the script ends within rows")
    if block:
        yield b"".join(block)
