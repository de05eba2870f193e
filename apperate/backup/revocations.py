"""What was taken away, in a file outside the database, so that an old backup brings none of it back silently.

    note("token.disabled", now=…, token="tok_…")      after the commit, one line is appended and synced
    read(paths) -> Noted                              the lines, oldest first, and how many cannot be read

The file is `revocations.jsonl` in the data directory, one for each host, and a copy of each line goes to the
folder of the backups. It holds times, ids and digests. What gives back is noted too: the last line on a
subject is its state. A line that cannot be written is a line in the log; the change itself goes on.
"""

import atexit
import contextlib
import json
import logging
import os
import queue
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

FILE = "revocations.jsonl"
COPIES = "revocations-*.jsonl"
LINE_BYTES_MAX = 100_000
# A folder of backups on a network that is away must not hold up the end of a command.
COPY_SECONDS_MAX = 2.0
COPIES_WAITING_MAX = 10_000
logger = logging.getLogger("apperate.backup")


@dataclass(frozen=True, slots=True)
class Line:
    at: datetime
    what: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Noted:
    """The lines of some files, each once, oldest first."""

    lines: list[Line]
    unreadable: int
    files: list[Path]


def own_file() -> Path:
    return Path(settings.DATA_DIR) / FILE


def copy_in(folder: Path) -> Path:
    """This host's file in the folder of the backups."""
    return folder / COPIES.replace("*", socket.gethostname() or "host")


def note(what: str, *, now: datetime, **facts: Any) -> None:
    """Append a line once the transaction is committed. Facts are ids, digests as hexadecimal, and times."""
    text = json.dumps({"at": now.astimezone(UTC).isoformat(), "what": what, **facts})
    transaction.on_commit(lambda: _append(text), robust=True)


def digests(values: Iterable[bytes | memoryview]) -> list[str]:
    return [bytes(value).hex() for value in values]


def _append(text: str) -> None:
    try:
        append(own_file(), text)
    except OSError as error:
        logger.error("not noted in %s: %s, of %s", own_file(), error.strerror, text)
    if settings.BACKUP_TO:
        _copier().send(text)


def append(path: Path, text: str) -> None:
    """Append one line, whole, and sync it to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # A line that a power cut tore must not swallow the next.
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, ("\n" * is_torn + text + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(paths: Iterable[Path]) -> Noted:
    """The lines of these files, in the order of their times. Raises OSError for one that cannot be read."""
    seen: dict[str, Line] = {}
    unreadable: set[str] = set()
    files = []
    for path in paths:
        files.append(path)
        with path.open(encoding="utf-8", errors="replace") as file:
            while text := file.readline(LINE_BYTES_MAX):
                if not text.strip() or text in seen:
                    continue
                try:
                    facts = json.loads(text)
                    seen[text] = Line(datetime.fromisoformat(facts.pop("at")), str(facts.pop("what")), facts)
                except (ValueError, KeyError, TypeError, AttributeError):
                    unreadable.add(text)
    return Noted(sorted(seen.values(), key=lambda line: line.at), len(unreadable), files)


def complete_copy(folder: Path) -> None:
    """Bring the copy in the folder up to date with lines that could not be sent there. Raises OSError."""
    own, copy = own_file(), copy_in(folder)
    if not own.exists():
        return
    there = set(copy.read_text(errors="replace").splitlines()) if copy.exists() else set()
    for text in own.read_text(errors="replace").splitlines():
        if text and text not in there:
            append(copy, text)


class Copier:
    """A thread that copies lines to the folder of the backups, so that nobody waits for it."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str] = queue.Queue(COPIES_WAITING_MAX)
        self._idle = threading.Event()
        threading.Thread(target=self._run, name="revocations", daemon=True).start()
        atexit.register(lambda: self._idle.wait(COPY_SECONDS_MAX))

    def send(self, text: str) -> None:
        self._idle.clear()
        with contextlib.suppress(queue.Full):  # The next backup copies what is missing.
            self._lines.put_nowait(text)

    def _run(self) -> None:
        while True:
            text = self._lines.get()
            path = copy_in(Path(settings.BACKUP_TO))
            try:
                append(path, text)
            except OSError as error:
                logger.error("not copied to %s: %s; the next backup does it", path, error.strerror)
            if self._lines.empty():
                self._idle.set()


_mutex = threading.Lock()


@cache
def _made_for(process: int) -> Copier:
    return Copier()


def _copier() -> Copier:
    """This process's copier: a forked child has no thread of its parent's."""
    with _mutex:
        return _made_for(os.getpid())
