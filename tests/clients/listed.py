"""docs/old-clients.md as data: the calls it lists, and the code that points a client at a server."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.clients.recorder import Exchange

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "old-clients.md"
COLUMNS = ["call", "request", "answer", "the caller gets"]
ADDRESS, SECRET = "http://127.0.0.1:8000", "sk_…"
ANYTHING = "…"


@dataclass(frozen=True)
class Row:
    """A call as the page lists it."""

    call: str
    request: str
    answer: str
    gets: str


def section(client: str) -> str:
    """What the page says of one client."""
    return PAGE.read_text().split(f"\n## {client}", 1)[1].split("\n## ", 1)[0]


def rows(client: str) -> list[Row]:
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section(client).splitlines() if line[:1] == "|"]
    cells = [[cell.strip().replace("\\|", "|") for cell in line] for line in lines]
    listed = [line for line in cells if line != COLUMNS and not set("".join(line)) <= {"-"}]
    return [Row(*(cell.strip("`") for cell in line)) for line in listed]


def code(client: str, *, address: str, token: str) -> list[str]:
    """The blocks of code of a client, for another address and token."""
    blocks = re.findall(r"^```\w+\n(.*?)^```$", section(client), re.MULTILINE | re.DOTALL)
    return [block.replace(ADDRESS, address).replace(SECRET, token) for block in blocks]


def seen(exchange: Exchange, token: str) -> tuple[str, str]:
    """A request and its answer, in the words of the page."""
    status, _, body = exchange.answer()
    if status != 200 and (code := re.search(r'"code": "([a-z-]+)"', body)):
        body = code[1]
    request = f"{exchange.request_line} {exchange.body}".strip().replace(token, ANYTHING)
    return on_one_line(request), on_one_line(f"{status} {body}")


def on_one_line(text: str) -> str:
    return text.replace("\r", "").rstrip("\n").replace("\n", "\\n")


def fits(listed: str, came: str) -> bool:
    """Whether a text is what the page says, where … may be anything."""
    return bool(re.fullmatch(".*".join(map(re.escape, listed.split(ANYTHING))), came))
