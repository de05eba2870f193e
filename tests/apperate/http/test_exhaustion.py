"""A worker that can start no thread answers 503, and ends so that another one takes its place."""

import asyncio
import os
import signal
import threading
from typing import Any

import pytest

from apperate import asgi
from apperate.http import exhaustion

TIRED = RuntimeError("can't start new thread")


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    exhaustion._seen.clear()
    yield sent
    exhaustion._seen.clear()


def test_three_within_a_minute_end_the_worker(signals: list[tuple[int, int]]) -> None:
    assert [exhaustion.note(TIRED, at=at) for at in (0, 50, 100)] == [True, True, True]
    assert signals == []

    assert exhaustion.note(TIRED, at=105)

    assert signals == [(os.getpid(), signal.SIGTERM)]


@pytest.mark.parametrize("error", [RuntimeError("no running event loop"), MemoryError(), OSError(24, "")])
def test_other_errors_do_not(signals: list[tuple[int, int]], error: Exception) -> None:
    assert [exhaustion.note(error, at=0) for _ in range(5)] == [False] * 5
    assert signals == []


def test_a_page_is_503_when_no_thread_can_be_started(
    signals: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/livez",
            "raw_path": b"/livez",
            "query_string": b"",
            "headers": [(b"host", b"testserver")],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 8000),
        }
        incoming = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not incoming:
                await asyncio.Event().wait()  # The client stays until it has its answer.
            return incoming.pop()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        with asyncio.Runner() as runner:
            runner.run(asgi.application(scope, receive, send))
        return sent

    def refuse(thread: threading.Thread) -> None:
        raise TIRED

    assert asked()[0]["status"] == 200
    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert [asked()[0]["status"] for _ in range(3)] == [503, 503, 503]
    assert (os.getpid(), signal.SIGTERM) in signals
