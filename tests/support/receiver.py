"""A real HTTP server of a test: keeps what it was sent, and answers with the bytes it was told."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Receiver:
    """`answers` are sent one after the other, the last one again and again; None says nothing."""

    port: int = 0
    answers: list[bytes | None] = field(default_factory=lambda: [OK])
    endless: bytes = b""  # sent after each answer until the caller goes away
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)  # head, body
    connections: int = 0
    has_ended: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/hook", *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def header(self, name: str, number: int = -1) -> str:
        for line in self.requests[number][0].decode().split("\r\n"):
            if line.lower().startswith(f"{name.lower()}:"):
                return line.partition(":")[2].strip()
        raise KeyError(name)

    def serve(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            part = connection.recv(65_536)
            if not part:
                return
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        while len(body) < length:
            body += connection.recv(65_536)
        self.requests.append((head, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            self.has_ended.wait(30)
            return
        connection.sendall(answer)
        while self.endless and not self.has_ended.is_set():
            connection.sendall(self.endless)


@contextmanager
def receiving(
    address: str = "127.0.0.1", *, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """The server on a loopback address."""
    receiver = Receiver()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            receiver.connections += 1
            try:
                if tls is None:
                    receiver.serve(self.request)
                else:
                    with tls.wrap_socket(self.request, server_side=True) as connection:
                        receiver.serve(connection)
            except OSError:
                pass  # The caller went away.

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    with Server((address, port), Handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.has_ended.set()
            server.shutdown()
            thread.join()
