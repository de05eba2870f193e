"""A relay in front of the server that remembers what crossed it: bytes go on unchanged, each way.

with Recorder(port) as wire:        wire.port is where a client sends its requests
    wire.take() -> [Exchange]       what crossed since the last take, in order
"""

import gzip
import http.client
import socket
import threading
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any


@dataclass
class Exchange:
    """One request and its answer, as they were sent."""

    sent: bytearray = field(default_factory=bytearray)
    came: bytearray = field(default_factory=bytearray)

    @property
    def request_line(self) -> str:
        method, target, _ = self.sent.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        return f"{method} {target}"

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers, names in lower case."""
        lines = self.sent.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def body(self) -> str:
        return self.sent.split(b"\r\n\r\n", 1)[1].decode()

    def answer(self) -> tuple[int, dict[str, str], str]:
        """Status, headers with names in lower case, and body of the answer."""
        reply = http.client.HTTPResponse(_Held(bytes(self.came)))  # type: ignore[arg-type]
        reply.begin()
        content = reply.read()
        headers = {name.lower(): value for name, value in reply.getheaders()}
        if headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        return reply.status, headers, content.decode()


class _Held:
    """Bytes in the shape of a socket, as http.client wants it."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def makefile(self, *args: Any) -> BytesIO:
        return BytesIO(self.content)


class Recorder:
    """Listens on a port of its own and passes every connection on to the server's."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.exchanges: list[Exchange] = []
        self.wires: list[socket.socket] = []

    def __enter__(self) -> "Recorder":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for wire in [self.listener, *self.wires]:
            wire.close()

    def take(self) -> list[Exchange]:
        taken, self.exchanges = self.exchanges, []
        return taken

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.server_port))
            self.wires += [client, server]
            current: list[Exchange] = []
            for source, target, is_request in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._pass_on, args=(source, target, current, is_request), daemon=True
                ).start()

    def _pass_on(
        self, source: socket.socket, target: socket.socket, current: list[Exchange], is_request: bool
    ) -> None:
        """Remember, then pass on: what has arrived is in the record."""
        try:
            while part := source.recv(65_536):
                if is_request and (not current or current[-1].came):
                    current.append(Exchange())
                    self.exchanges.append(current[-1])
                (current[-1].sent if is_request else current[-1].came).extend(part)
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # One side is gone; the other thread ends with it.
