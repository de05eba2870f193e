"""HTTP as plain as it gets, so that what a fault does to a connection is seen and not hidden by a library.

answer = await Wire(port).ask("GET", "/v1/status")        raises LOST when there is no whole answer
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

LOST = (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The JSON of the body, or an empty object."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @property
    def code(self) -> str:
        document = self.document
        return str(document.get("code", "")) if isinstance(document, dict) else ""


class Wire:
    """One kept connection to a port of this machine; opened when it is needed, closed after a fault."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self,
        method: str,
        target: str,
        *,
        token: str = "",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        seconds_max: float = 15,
    ) -> Answer:
        given = {"Host": f"127.0.0.1:{self.port}", **(headers or {})}
        if token:
            given["Authorization"] = f"Bearer {token}"
        if body is not None:
            given["Content-Length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        request = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + (body or b"")
        try:
            return await asyncio.wait_for(self._exchange(request, is_head=method == "HEAD"), seconds_max)
        except BaseException:
            self.close()
            raise

    async def _exchange(self, request: bytes, *, is_head: bool) -> Answer:
        # A server may close a kept connection that nobody uses.
        if self.streams is None or self.streams[0].at_eof() or self.streams[1].is_closing():
            self.close()
            self.streams = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        reader, writer = self.streams
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])
        }
        body = b"" if is_head else await self._body(reader, headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(head[0].split()[1]), headers, body)

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await reader.readexactly(int(headers.get("content-length", 0)))
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
        return body

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None
