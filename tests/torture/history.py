"""What clients asked and what they were told, one JSON line for each, outside the database.

Each request is an `invoke` and at most one end: `ok` was acknowledged, `fail` was refused for certain, and
after `unknown` it may have been done or not: a connection that broke, a 503. A request without an end, of a
client that was killed, is unknown too. Times are of the monotonic clock, which processes share.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

End = Literal["ok", "fail", "unknown"]


@dataclass(frozen=True)
class Request:
    """One request with its end. `asked` is what was wanted of `act`, `told` what the answer said."""

    who: str
    act: str
    invoked_at: float
    asked: dict[str, Any] = field(default_factory=dict)
    end: End = "unknown"
    ended_at: float = float("inf")
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.ended_at - self.invoked_at


class Log:
    """Appends to the history of one client. A line is written whole before the request goes out."""

    def __init__(self, file: TextIO, who: str) -> None:
        self.file, self.who, self.count = file, who, 0

    def invoke(self, act: str, **asked: Any) -> int:
        self.count += 1
        self._write("invoke", self.count, act=act, asked=asked)
        return self.count

    def end(self, number: int, how: End, **told: Any) -> None:
        self._write(how, number, told=told)

    def _write(self, what: str, number: int, **fields: Any) -> None:
        line = {"who": self.who, "number": number, "what": what, "at": time.monotonic(), **fields}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


def read(paths: Iterable[Path]) -> list[Request]:
    """The requests of these files, in the order in which they were sent."""
    found: dict[tuple[str, int], Request] = {}
    for path in paths:
        for line in lines_of(path):
            place = line["who"], line["number"]
            if line["what"] == "invoke":
                found[place] = Request(line["who"], line["act"], line["at"], line["asked"])
            else:
                begun = found[place]
                found[place] = Request(
                    begun.who,
                    begun.act,
                    begun.invoked_at,
                    begun.asked,
                    line["what"],
                    line["at"],
                    line["told"],
                )
    return sorted(found.values(), key=lambda request: request.invoked_at)


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file. The last one of a client that was killed may be half a line, and is left out."""
    with path.open() as file:
        for text in file:
            if text.endswith("\n"):
                yield json.loads(text)
