"""S35: where a request ends and the next begins is read in one way, on raw sockets against the real server.

Each body holds a second request. What ends a body early, or hides its length, never makes the server answer
it: the whole is refused and the connection closed, or the body is taken as its length or its chunks say.
"""

import json
import re
import socket

import pytest

from tests.support.installation import Demo

pytestmark = [pytest.mark.server, pytest.mark.check("S35")]

INNER = "GET /livez HTTP/1.1\r\nHost: smuggled\r\n\r\n"
RECORD = '[{"Name":"smuggled"}]'
CHUNK = f"{len(RECORD):x}\r\n{RECORD}\r\n0\r\n\r\n"
LENGTH = f"Content-Length: {len(INNER)}\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
# Whoever asks, and where: a view that reads its body, one that refuses before, one that takes none, a page.
TARGETS = {
    "a write": "/v1/record/DEMO/CARS?token=SECRET",
    "a refused write": f"/v1/record/DEMO/CARS?token=pk_{'0' * 40}",
    "a page": "/account/login/",
    "a probe": "/livez",
}


def sent(demo: Demo, target: str, rest: str, *, method: str = "POST") -> tuple[list[int], bool, str]:
    """The statuses of all answers, whether the next request was read as the next, and what was said."""
    target = TARGETS.get(target, target).replace("SECRET", demo.facts["secret_token"])
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as wire:
        # A last request tells where the server is in what it reads: it is answered if nothing is left over.
        wire.sendall(f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{demo.port}\r\n{rest}".encode("latin-1"))
        wire.sendall(b"GET /v1/marker HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = b""
        try:
            while part := wire.recv(65_536):
                found += part
        except ConnectionResetError:  # What the server had not read when it closed.
            pass
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", found)]
    is_in_step = statuses[1:] == [404]
    return statuses, is_in_step, found.decode("latin-1")


# What is no framing at all: refused by the server, and nothing after it is read.
BROKEN = {
    "two lengths": f"Content-Length: 0\r\n{LENGTH}\r\n{INNER}",
    "a list of lengths": f"Content-Length: {len(INNER)}, {len(INNER)}\r\n\r\n{INNER}",
    "a length with a sign": f"Content-Length: +{len(INNER)}\r\n\r\n{INNER}",
    "a negative length": f"Content-Length: -1\r\n\r\n{INNER}",
    "a length in hexadecimal": f"Content-Length: 0x10\r\n\r\n{INNER}",
    "an empty length": f"Content-Length: \r\n\r\n{INNER}",
    "a length beyond 64 bits": f"Content-Length: {'9' * 23}\r\n\r\n{INNER}",
    "a space before the colon of a length": f"Content-Length : {len(INNER)}\r\n\r\n{INNER}",
    "a carriage return in a header": f"X: y\rContent-Length: {len(INNER)}\r\n\r\n{INNER}",
    "another coding": f"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{INNER}",
    "no coding": f"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{INNER}",
    "chunked, then another": f"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{INNER}",
    "chunked, then another header": f"{CHUNKED}Transfer-Encoding: identity\r\n\r\n0\r\n\r\n{INNER}",
    "a space before the colon of a coding": f"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{INNER}",
    "a vertical tab before a coding": f"Transfer-Encoding: \x0bchunked\r\n{LENGTH}\r\n0\r\n\r\n{INNER}",
    "a coding in quotes": f'Transfer-Encoding: "chunked"\r\n{LENGTH}\r\n0\r\n\r\n{INNER}',
    "a folded coding": f"Transfer-Encoding:\r\n chunked\r\n{LENGTH}\r\n0\r\n\r\n{INNER}",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rest", BROKEN.values(), ids=BROKEN)
def test_a_head_that_does_not_say_where_its_body_ends_is_refused(demo: Demo, target: str, rest: str) -> None:
    statuses, _, _ = sent(demo, target, rest)

    assert statuses == [400]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "headers",
    [
        LENGTH + CHUNKED,
        CHUNKED + LENGTH,
        "Content-Length: 4\r\n" + CHUNKED,
        CHUNKED + "Content-Length: 99\r\n",
    ],
    ids=["length first", "chunks first", "a shorter length", "a longer length"],
)
def test_chunks_beside_a_length_are_the_last_request_of_their_connection(
    demo: Demo, target: str, headers: str
) -> None:
    """The server drops the length, takes the chunks, and closes (RFC 9112, 6.3): what follows is not read."""
    statuses, is_in_step, _ = sent(demo, target, f"{headers}\r\n0\r\n\r\n{INNER}")

    assert len(statuses) == 1 and statuses[0] >= 400
    assert not is_in_step


BROKEN_CHUNKS = {
    "line feeds alone": f"{len(RECORD):x}\n{RECORD}\n0\n\n",
    "a prefix of hexadecimal": f"0x{CHUNK}",
    "a negative size": f"-{CHUNK}",
    "a size beyond 64 bits": f"1{'0' * 16}{CHUNK}",
    "more than the size": f"{len(RECORD):x}\r\n{RECORD}xx\r\n0\r\n\r\n",
    "a line feed in an extension": f"{len(RECORD):x};\nx\r\n{RECORD}\r\n0\r\n\r\n",
    "an extension of 20,000 characters": f"{len(RECORD):x};{'a' * 20_000}\r\n{RECORD}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("chunks", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_chunks_that_are_not_well_formed_are_refused_and_end_the_connection(
    demo: Demo, target: str, chunks: str
) -> None:
    statuses, _, said = sent(demo, target, f"{CHUNKED}\r\n{chunks}{INNER}")

    assert len(statuses) == 1 and 400 <= statuses[0] < 500
    assert "connection: close" in said
    if target == "a write":
        assert json.loads(said.partition("\r\n\r\n")[2])["detail"] == "The body broke off before its end."


# What is well-formed is taken, and the next request is the one that follows.
SOUND = {
    "a length": f"{LENGTH}\r\n{INNER}",
    "chunks": f"{CHUNKED}\r\n{len(INNER):x}\r\n{INNER}\r\n0\r\n\r\n",
    "capital letters": f"TRANSFER-ENCODING: CHUNKED\r\n\r\n{len(INNER):x}\r\n{INNER}\r\n0\r\n\r\n",
    "an extension": f"{CHUNKED}\r\n{len(INNER):x};a=b\r\n{INNER}\r\n0;c\r\n\r\n",
    "a trailer": f"{CHUNKED}\r\n{len(INNER):x}\r\n{INNER}\r\n0\r\nContent-Length: 9\r\nHost: evil\r\n\r\n",
    "an expected 100": f"Expect: 100-continue\r\n{LENGTH}\r\n{INNER}",
    "many requests in it": f"Content-Length: {len(INNER) * 5_000}\r\n\r\n{INNER * 5_000}",
    "names with an underscore": f"Content_Length: 1\r\nTransfer_Encoding: x\r\n{LENGTH}\r\n{INNER}",
    "an upgrade": f"Connection: Upgrade\r\nUpgrade: h2c\r\n{LENGTH}\r\n{INNER}",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rest", SOUND.values(), ids=SOUND)
def test_a_body_is_never_taken_for_the_next_request(demo: Demo, target: str, rest: str) -> None:
    statuses, is_in_step, _ = sent(demo, target, rest)

    assert 400 <= statuses[0] < 500
    assert is_in_step


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"])
@pytest.mark.parametrize("rest", [SOUND["a length"], SOUND["chunks"]], ids=["a length", "chunks"])
def test_a_body_of_a_method_that_has_none_is_not_the_next_request(demo: Demo, method: str, rest: str) -> None:
    _, is_in_step, _ = sent(demo, "/v1/data/DEMO/CARS?limit=1&token=SECRET", rest, method=method)

    assert is_in_step


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "headers",
    ["Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked, chunked\r\n",
     "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", CHUNKED * 2],
    ids=["packed", "twice", "packed in two headers", "twice in two headers"],
)  # fmt: skip
def test_chunks_within_another_coding_are_refused(demo: Demo, target: str, headers: str) -> None:
    """A proxy may see another body in it; the server itself would take the outer chunks alone."""
    statuses, _, _ = sent(demo, target, f"{headers}\r\n{CHUNK}")

    assert statuses[0] in {400, 415}


@pytest.mark.parametrize("target", ["a write", "a refused write"])
def test_what_is_too_long_to_be_read_away_ends_the_connection(demo: Demo, target: str) -> None:
    statuses, _, said = sent(demo, target, f"Content-Length: 17000000\r\n\r\n{INNER * 100}")

    assert len(statuses) == 1 and statuses[0] in {403, 413}
    assert "connection: close" in said
