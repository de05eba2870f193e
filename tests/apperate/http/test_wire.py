"""Requests whose target or host is odd, on raw sockets against the server that `manage.py up` starts.

What the server in front of the application decides is written down too: docs/operating.md tells operators
which of it a proxy should refuse.
"""

import json
import socket

import pytest

from tests.support.installation import Demo

pytestmark = pytest.mark.server


def answers(demo: Demo, request: str) -> tuple[int, bytes]:
    """The status and the body of the one answer; the server closes the connection after it."""
    request = request.replace("PORT", str(demo.port)).replace("END", "Connection: close\r\n\r\n")
    with socket.create_connection(("127.0.0.1", demo.port), timeout=5) as wire:
        wire.sendall(request.encode("latin-1"))
        reply = b"".join(iter(lambda: wire.recv(65_536), b""))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.count(b"HTTP/1.") == 1
    return int(head.split()[1]), body


@pytest.mark.check("S35")
@pytest.mark.parametrize("target", ["/v1/account/metadata", "/docs/"], ids=["API", "page"])
@pytest.mark.parametrize(
    "headers",
    [
        "", "Host:\r\n", "Host: a\r\nHost: b\r\n", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: a/b\r\n",
        "Host: a,b\r\n", "Host: a:x\r\n", "Host: me@a\r\n", "Host: http://a\r\n", "Host: \xe9\r\n",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_request_that_does_not_name_one_host_is_refused(demo: Demo, target: str, headers: str) -> None:
    status, body = answers(demo, f"GET {target} HTTP/1.1\r\n{headers}END")

    assert status == 400
    if target.startswith("/v1"):
        refused = json.loads(body)
        assert refused["code"] == "invalid-values"
        assert refused["received"] and refused["needed"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:PORT", "localhost", "[::1]:8000", "my_service:80", "xn--4ca.example.com.", "data.example:"],
)
def test_a_host_of_any_kind_is_taken(demo: Demo, host: str) -> None:
    status, body = answers(demo, f"GET /v1/account/metadata HTTP/1.1\r\nHost: {host}\r\nEND")

    assert (status, json.loads(body)["code"]) == (401, "token-missing")


def test_http_1_0_needs_no_host(demo: Demo) -> None:
    status, body = answers(demo, "GET /v1/account/metadata HTTP/1.0\r\n\r\n")

    assert (status, json.loads(body)["code"]) == (401, "token-missing")


@pytest.mark.parametrize(
    "request_head",
    [
        "GET /livez HTTP/1.1\r\nHost: a\rX: b\r\nEND",
        "GET /livez HTTP/1.1\r\nHost : a\r\nEND",
        "GET /livez HTTP/1.1\r\nHost: a\r\n folded\r\nEND",
        "GET  /livez HTTP/1.1\r\nHost: a\r\nEND",
        "GET /livez\r\nHost: a\r\nEND",
        "GET /livez HTTP/1.1\r\nHost: a\r\nX\0: b\r\nEND",
        "CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\nEND",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nEND",
    ],
    ids=ascii,
)
def test_what_is_no_request_for_this_server_is_refused(demo: Demo, request_head: str) -> None:
    assert answers(demo, request_head)[0] in {400, 404}


@pytest.mark.parametrize(
    "request_head",
    [
        "GET /livez HTTP/1.1\nHost: 127.0.0.1:PORT\nConnection: close\n\n",
        "GET http://other.example/livez HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nEND",
        "GET http://127.0.0.1:PORT/livez HTTP/1.1\r\nEND",
    ],
    ids=["bare line feeds", "a target of another host", "a whole target without Host"],
)
def test_what_the_server_takes_that_a_proxy_should_refuse(demo: Demo, request_head: str) -> None:
    """Bare line feeds and whole targets: the application does not see them, and answers as without."""
    assert answers(demo, request_head) == (200, b"ok\n")


@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "evil.example"])
def test_a_target_of_another_host_changes_no_link(demo: Demo, host: str) -> None:
    """Links carry the host of the settings, whatever the request says."""
    with_target = answers(demo, f"GET http://evil.example/v1/openapi-doc HTTP/1.1\r\nHost: {host}\r\nEND")

    assert with_target[0] == 200
    assert b"evil.example" not in with_target[1]
