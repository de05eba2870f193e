"""Who gets the figures: with a token on the main port, or on a port of their own.

    is_asked_for(scope), answer(scope, send)         GET /metrics of the main port, in a worker
    python -m apperate.running.figures ADDRESS PORT  a server for them alone, which `manage.py up` starts

They are never open: the port of their own listens on this machine alone unless a token is set as well.
"""

import asyncio
import hmac
import os
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import django

PATH = "/metrics"
SECONDS_MAX = 15
Answer = tuple[HTTPStatus, bytes, dict[str, str]]


def is_asked_for(scope: dict[str, Any]) -> bool:
    """Whether this request of the main port is for the figures, and they are published there."""
    from django.conf import settings

    return bool(settings.METRICS.on_main_port and scope["path"] == PATH)


async def answer(scope: dict[str, Any], send: Any) -> None:
    """In a thread: merging the files and asking the database takes some milliseconds."""
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    status, body, headers = await asyncio.to_thread(respond, scope["method"], given)
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": pairs})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def respond(method: str, authorization: list[str]) -> Answer:
    """The figures, or why not. `authorization`: every header of that name."""
    from django.conf import settings

    from apperate.running import exposition

    token = settings.METRICS.token
    if token and not (len(authorization) == 1 and is_bearer(authorization[0], token)):
        said = {"WWW-Authenticate": 'Bearer realm="Apperate metrics"'}
        return plain(
            HTTPStatus.UNAUTHORIZED, "Needed: Authorization: Bearer, with APPERATE_METRICS_TOKEN.", said
        )
    if method not in {"GET", "HEAD"}:
        return plain(HTTPStatus.METHOD_NOT_ALLOWED, "Needed: GET.", {"Allow": "GET, HEAD"})
    return told(HTTPStatus.OK, exposition.text(), {"Content-Type": exposition.CONTENT_TYPE})


def is_bearer(given: str, token: str) -> bool:
    scheme, _, value = given.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(value.strip().encode(), token.encode())


def plain(status: HTTPStatus, text: str, headers: dict[str, str]) -> Answer:
    return told(status, f"{text}\n".encode(), {**headers, "Content-Type": "text/plain; charset=utf-8"})


def told(status: HTTPStatus, body: bytes, headers: dict[str, str]) -> Answer:
    return status, body, {
        **headers, "Content-Length": str(len(body)), "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Answers GET /metrics, and nothing else."""

    timeout = SECONDS_MAX
    server_version, sys_version = "Apperate", ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            answer = plain(HTTPStatus.NOT_FOUND, f"The figures are at {PATH}.", {})
        else:
            answer = respond(self.command, self.headers.get_all("Authorization", []))
        status, body, headers = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """No access log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nobody's fault; anything else is a line in the log."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def serve(address: str, port: int) -> None:
    """Serve until a signal. Raises OSError when the port cannot be had."""
    family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
    kind = type("Server", (Server,), {"address_family": family})
    with kind((address, port), Handler) as server:
        server.serve_forever()


def main(address: str, port: int) -> None:
    try:
        serve(address, port)
    except OSError as error:
        sys.stderr.write(
            f"APPERATE_METRICS_PORT={port} on {address} cannot be listened on: {error.strerror or error}.\n"
        )
        sys.exit(2)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apperate.settings")
    django.setup(set_prefix=False)
    main(sys.argv[1], int(sys.argv[2]))
