"""A client of the data plane that speaks ASGI to it in this process, on an event loop of its own.

Background work runs as it does in a server worker. Answers are whole: status, headers, body.
"""

import asyncio
import json
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from apperate import asgi


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a refusal; empty for a success."""
        return self.json().get("code", "") if "problem" in self.headers["content-type"] else ""


class DataPlaneClient:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.run(asgi.startup())

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60)

    def close(self) -> None:
        self.run(asgi.shutdown())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=5)
        self.loop.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: Any = (),
        scheme: str = "http",
        address: str = "127.0.0.1",
        announces_body: bool = False,
    ) -> Reply:
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
        if (body or announces_body) and not any(name.lower() == "content-length" for name, _ in pairs):
            pairs.append(("Content-Length", str(len(body))))
        if not any(name == "Host" for name, _ in pairs):
            pairs.insert(0, ("Host", "testserver"))
        target = urlsplit(url)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": scheme,
            "path": unquote(target.path),
            "raw_path": target.path.encode(),
            "query_string": target.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
            "client": (address, 50_000),
            "server": ("127.0.0.1", 8000),
        }
        return self.run(self._exchange(scope, body))

    async def _exchange(self, scope: dict[str, Any], body: bytes) -> Reply:
        incoming = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not incoming:
                await asyncio.Event().wait()  # The client stays until it has its answer.
            return incoming.pop()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await asgi.application(scope, receive, send)
        start = sent[0]
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]
        }
        return Reply(start["status"], headers, b"".join(message["body"] for message in sent[1:]))

    def get(self, url: str, **kwargs: Any) -> Reply:
        return self.request("GET", url, **kwargs)

    def post(self, url: str, body: bytes | str | Any = b"", **kwargs: Any) -> Reply:
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.request("POST", url, body=body, announces_body=True, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> Reply:
        return self.request("DELETE", url, **kwargs)
