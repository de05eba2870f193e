"""Bodies sent to pages: a form from anybody, a file from who is signed in, nothing that fills the disk."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client

from apperate.accounts.models import User
from apperate.database import disk
from apperate.http.page_bodies import PageBody
from tests.conftest import signed_in
from tests.support.installation import Demo, until

FORM_BYTES_MAX = django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE
FILE_PAGE, FORM_PAGE = "/datasets/new/", "/tokens/new/"
PART = b"a" * 500_000


def taken(path: str, *, parts: int, cookie: str = "", declares: int | None = None) -> tuple[int, Any]:
    """How many bytes of a body a page takes, and why not the rest."""
    headers = [(b"host", b"testserver"), (b"cookie", cookie.encode())]
    if declares is not None:
        headers.append((b"content-length", str(declares).encode()))
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "scheme": "http",
    }  # fmt: skip

    async def go() -> tuple[int, Any]:
        more = [True] * (parts - 1) + [False]
        sent = iter([{"type": "http.request", "body": PART, "more_body": is_more} for is_more in more])

        async def receive() -> dict[str, Any]:
            return next(sent)

        body, total = PageBody(scope, receive), 0
        while (message := await body())["type"] == "http.request":
            total += len(message["body"])
            if not message["more_body"]:
                break
        return total, body.refusal

    return asyncio.run(go())


def cookie_of(client: Client) -> str:
    name = django_settings.SESSION_COOKIE_NAME
    return f"{name}={client.cookies[name].value}"


@pytest.mark.parametrize("path", [FORM_PAGE, FILE_PAGE, "/livez", "/account/login/", "/nothing/"])
@pytest.mark.django_db(transaction=True)
def test_a_form_is_taken_from_anybody_and_what_is_longer_from_nobody(path: str) -> None:
    assert taken(path, parts=5) == (FORM_BYTES_MAX, None)

    total, refusal = taken(path, parts=1_000, cookie="session=made-up")

    assert (total, refusal.code) == (FORM_BYTES_MAX, "body-too-large")
    total, refusal = taken(path, parts=1_000, declares=FORM_BYTES_MAX + 1)
    assert (total, refusal.code, refusal.received) == (0, "body-too-large", "2,500,001 bytes")


@pytest.mark.check("S34")
@pytest.mark.django_db(transaction=True)
def test_a_file_is_taken_from_who_is_signed_in_where_one_is_asked_for(owner: User, settings: Any) -> None:
    settings.UPLOAD_BYTES_MAX = 4_000_000
    person = signed_in(owner)
    cookie = cookie_of(person)

    assert taken(FILE_PAGE, parts=13, cookie=cookie) == (6_500_000, None)
    total, refusal = taken(FILE_PAGE, parts=14, cookie=cookie)
    assert (total, refusal.needed) == (6_500_000, "at most 6,500,000 bytes")
    assert taken(FORM_PAGE, parts=6, cookie=cookie)[1].needed == "at most 2,500,000 bytes"
    person.logout()
    assert taken(FILE_PAGE, parts=6, cookie=cookie)[1].code == "body-too-large"


@pytest.mark.django_db(transaction=True)
def test_a_file_is_refused_while_the_disk_is_nearly_full(owner: User, settings: Any) -> None:
    settings.DISK_RESERVE_MB, settings.DISK_RESERVE_IS_SET = 10**9, True
    disk.forget()
    try:
        total, refusal = taken(FILE_PAGE, parts=20, cookie=cookie_of(signed_in(owner)))
    finally:
        disk.forget()

    assert (total, refusal.code) == (FORM_BYTES_MAX, "storage-full")


# --- on the server --------------------------------------------------------------------------------


def stored_bytes(demo: Demo) -> int:
    """What the workers hold in temporary files that have no name."""
    total = 0
    for pid in demo.pids("apperate.running.server"):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(link).startswith("/tmp/") and os.readlink(link).endswith("(deleted)"):
                    total += link.stat().st_size
            except OSError:
                continue
    return total


@pytest.fixture
def wire(demo: Demo) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", demo.port), timeout=30) as wire:
        yield wire


def reply(wire: socket.socket) -> tuple[int, str]:
    """The status, and all that came until the server closed the connection."""
    found = b"".join(iter(lambda: wire.recv(65_536), b""))
    return int(found.split()[1]), found.decode()


@pytest.mark.check("S34")
@pytest.mark.server
def test_what_anybody_sends_to_a_page_is_stored_nowhere(demo: Demo, wire: socket.socket) -> None:
    head = "POST /account/login/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire.sendall(head.encode())
    for _ in range(24):
        wire.sendall(b"%x\r\n%s\r\n" % (len(PART), PART))

    # It is still on its way, and could be without an end.
    until(lambda: stored_bytes(demo) == 0)

    wire.sendall(b"".join(b"%x\r\n%s\r\n" % (len(PART), PART) for _ in range(10)))
    status, said = reply(wire)
    assert status == 413
    assert "connection: close" in said and "The body may have at most 2,500,000 bytes." in said
    assert "content-security-policy: default-src 'none'" in said and "x-frame-options: DENY" in said


@pytest.mark.check("S34")
@pytest.mark.server
def test_a_length_that_is_too_much_is_refused_at_once(demo: Demo, wire: socket.socket) -> None:
    wire.sendall(b"POST /datasets/new/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000000\r\n\r\n")

    assert reply(wire)[0] == 413
