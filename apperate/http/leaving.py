"""A worker that is about to end: clients with a kept connection are told, so that none is cut.

    begin()                     from now on each answer closes its connection
    is_leaving() -> bool        asked for each request
    closing(send) -> send       adds `Connection: close` to an answer

Whoever closes a kept connection cannot know whether the next request is already on its way.
"""

from typing import Any

_leaving = False


def begin() -> None:
    global _leaving
    _leaving = True


def is_leaving() -> bool:
    return _leaving


def closing(send: Any) -> Any:
    async def send_and_close(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [
                (name, value) for name, value in message.get("headers", ()) if name.lower() != b"connection"
            ]
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        await send(message)

    return send_and_close
