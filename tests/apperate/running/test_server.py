"""What crosses the wire, against the server that `manage.py up` starts: two workers, real sockets."""

import http.client
import http.cookiejar
import itertools
import json
import os
import re
import signal
import socket
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.installation import Demo, until
from tests.support.load.slow_clients import CONNECTIONS, KINDS, held, probe

pytestmark = [pytest.mark.server, pytest.mark.database]


class Dashboard:
    """A person at the dashboard: cookies and CSRF, no browser."""

    def __init__(self, demo: Demo) -> None:
        self.root = f"http://127.0.0.1:{demo.port}"
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(jar)
        self.post("/account/login/", login=demo.facts["email"], password=demo.facts["password"])

    def get(self, path: str) -> str:
        with self.opener.open(self.root + path, timeout=10) as reply:
            return str(reply.read().decode())

    def post(self, path: str, page: str | None = None, **fields: str) -> str:
        """Post a form, with the CSRF value of the page that holds it."""
        value = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get(page or path))
        assert value, "the page has no form"
        fields["csrfmiddlewaretoken"] = value[1]
        body = urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(self.root + path, body, {"Referer": self.root})  # noqa: S310
        with self.opener.open(request, timeout=10) as reply:
            return str(reply.read().decode())


def exchange(demo: Demo, request: bytes, *, close_after: float = 5) -> tuple[int, dict[str, str], bytes]:
    """One raw request, one answer."""
    with socket.create_connection(("127.0.0.1", demo.port), timeout=close_after) as wire:
        wire.sendall(request)
        reply = http.client.HTTPResponse(wire)
        reply.begin()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()


def get(demo: Demo, target: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
    lines = [f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{demo.port}", *headers, "", ""]
    return exchange(demo, "\r\n".join(lines).encode())


def test_the_demo_token_reads_real_prices(demo: Demo) -> None:
    status, headers, body = get(
        demo, f"/v1/data/DEMO/STOCKS/AAPL?last=3&token={demo.facts['publishable_token']}"
    )

    assert status == 200
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert [record["Ticker"] for record in json.loads(body)] == ["AAPL"] * 3


@pytest.mark.parametrize("prefix", ["v1", "stable", "latest", "beta"])
def test_the_old_version_names_are_the_same(demo: Demo, prefix: str) -> None:
    token = demo.facts["publishable_token"]

    assert get(demo, f"/{prefix}/data/demo/stocks/AAPL/?token={token}")[0] == 200


def test_connection_close_is_echoed(demo: Demo) -> None:
    target = f"/v1/data/DEMO/STOCKS?token={demo.facts['publishable_token']}"

    assert get(demo, target, "Connection: close")[1]["connection"] == "close"
    assert get(demo, target)[1].get("connection") != "close"


@pytest.mark.check("S35")
def test_a_chunked_body_is_read(demo: Demo) -> None:
    """S35: never taken as empty."""
    record = b'{"Ticker": "CHUNKED", "Date": "2024-01-02", "Close": 1.5}'
    chunks = (
        b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (record[:20], record[20:])) + b"0\r\n\r\n"
    )
    head = (
        f"POST /v1/record/DEMO/STOCKS?token={demo.facts['secret_token']} HTTP/1.1\r\nHost: x\r\n"
        "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
    )

    status, _, body = exchange(demo, head.encode() + chunks)

    assert (status, json.loads(body)["message"]) == (200, "wrote 1 messages")
    token = demo.facts["publishable_token"]
    assert json.loads(get(demo, f"/v1/data/DEMO/STOCKS/CHUNKED?token={token}")[2])[0]["Close"] == 1.5


@pytest.mark.check("S20")
def test_an_escaped_slash_stays_in_the_key(demo: Demo) -> None:
    secret, token = demo.facts["secret_token"], demo.facts["publishable_token"]
    record = b'{"Ticker": "BRK/B x", "Date": "2024-01-02", "Close": 2}'
    head = (
        f"POST /v1/record/DEMO/STOCKS?token={secret} HTTP/1.1\r\nHost: x\r\n"
        f"Content-Length: {len(record)}\r\n\r\n"
    )
    assert exchange(demo, head.encode() + record)[0] == 200

    status, _, body = get(demo, f"/v1/data/DEMO/STOCKS/BRK%2FB%20x?token={token}")

    assert (status, [found["Close"] for found in json.loads(body)]) == (200, [2])
    assert json.loads(get(demo, f"/v1/data/DEMO/STOCKS/BRK/B%20x?token={token}")[2]) == []


def write(demo: Demo, key: str) -> tuple[int, str]:
    """Write a record of a key: the status, and the code of a refusal."""
    record = json.dumps({"Ticker": key, "Date": "2024-01-02", "Close": 3}).encode()
    head = (
        f"POST /v1/record/DEMO/STOCKS?token={demo.facts['secret_token']} HTTP/1.1\r\nHost: x\r\n"
        f"Content-Length: {len(record)}\r\n\r\n"
    )
    status, _, body = exchange(demo, head.encode() + record)
    return status, json.loads(body).get("code", "")


@pytest.mark.parametrize(
    "key",
    ["a/b", "a%2Fb", "a%2Cb", "a b", "a,b", "\N{GRINNING FACE}", "?#&=", "x" * 1_500],
    ids=lambda key: ascii(key[:8]),
)
def test_a_key_of_any_characters_is_found_by_its_path(demo: Demo, key: str) -> None:
    assert write(demo, key) == (200, "")

    target = f"/v1/data/DEMO/STOCKS/{urllib.parse.quote(key, safe='')}"
    # A comma separates keys unless another character is named.
    status, _, body = get(demo, f"{target}?batchSeparator=|&token={demo.facts['publishable_token']}")

    assert (status, [record["Ticker"] for record in json.loads(body)]) == (200, [key])


def test_a_key_of_1501_bytes_is_refused(demo: Demo) -> None:
    assert write(demo, "x" * 1_501) == (400, "invalid-values")
    assert write(demo, "\N{GRINNING FACE}" * 376) == (400, "invalid-values")


@pytest.mark.check("S11")
def test_two_different_tokens_in_one_request_are_refused(demo: Demo) -> None:
    secret, token = demo.facts["secret_token"], demo.facts["publishable_token"]
    target = f"/v1/data/DEMO/STOCKS?token={token}"

    for header in (f"Authorization: Bearer {secret}", f"X-API-Key: {secret}"):
        status, _, body = get(demo, target, header)
        assert (status, json.loads(body)["code"]) == (400, "invalid-values")
        assert secret.encode() not in body and token.encode() not in body
    assert get(demo, target, f"Authorization: Bearer {token}", f"X-API-Key: {token}")[0] == 200


def test_2001_pairs_of_a_batch_are_refused_and_2000_are_read(demo: Demo) -> None:
    for count, expected in ((2_000, 200), (2_001, 400)):
        keys = ",".join(f"k{n}" for n in range(count))
        target = f"/v1/data/DEMO/STOCKS/{keys}?token={demo.facts['publishable_token']}"
        assert get(demo, target)[0] == expected


@pytest.mark.check("S38")
def test_a_client_that_sends_slowly_is_read_and_keeps_nobody_waiting(demo: Demo) -> None:
    record = b'{"Ticker": "SLOW", "Date": "2024-01-02", "Close": 3}'
    head = (
        f"POST /v1/record/DEMO/STOCKS?token={demo.facts['secret_token']} HTTP/1.1\r\nHost: x\r\n"
        f"Content-Length: {len(record)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", demo.port), timeout=5) as wire:
        wire.sendall(head.encode())
        for byte in record:
            wire.sendall(bytes([byte]))
            # Another client is answered between two bytes of this one.
            assert get(demo, "/v1/status")[0] == 200
        reply = http.client.HTTPResponse(wire)
        reply.begin()

        assert (reply.status, json.loads(reply.read())["message"]) == (200, "wrote 1 messages")


@pytest.mark.check("S38")
@pytest.mark.parametrize("kind", KINDS)
def test_200_slow_clients_keep_nobody_waiting(demo: Demo, kind: str) -> None:
    """S38. How long a probe waits is measured by benchmarks/slow_clients.py."""
    with held(demo, kind) as slow:
        assert {probe(demo) for _ in range(20)} == {200}
        # They were held all the while, not closed.
        assert len(slow.alive()) == CONNECTIONS


@pytest.mark.check("S11")
def test_an_underscore_header_is_not_taken_for_a_dashed_one(demo: Demo) -> None:
    status, _, body = get(demo, "/v1/data/DEMO/STOCKS", f"X_API_Key: {demo.facts['publishable_token']}")

    assert (status, json.loads(body)["code"]) == (401, "token-missing")


@pytest.mark.check("S11")
@pytest.mark.parametrize("name", ["X-API-Key", "Authorization", "Referer", "Origin"])
def test_a_repeated_credential_header_is_refused(demo: Demo, name: str) -> None:
    token = demo.facts["publishable_token"]
    value = f"Bearer {token}" if name == "Authorization" else token

    status, _, body = get(demo, "/v1/data/DEMO/STOCKS", f"{name}: {value}", f"{name}: {value}")

    assert (status, json.loads(body)["code"]) == (400, "invalid-values")


def test_long_targets_and_headers_are_refused(demo: Demo) -> None:
    assert get(demo, "/v1/data/DEMO/STOCKS?x=" + "a" * 17_000)[0] == 414
    assert get(demo, "/v1/data/DEMO/STOCKS", *(f"X-Filler-{n}: {'a' * 4_000}" for n in range(9)))[0] == 431


@pytest.mark.parametrize("encoding", ["gzip", "br", "nonsense"])
def test_an_encoded_body_is_refused(demo: Demo, encoding: str) -> None:
    head = (
        f"POST /v1/record/DEMO/STOCKS?token={demo.facts['secret_token']} HTTP/1.1\r\nHost: x\r\n"
        f"Content-Length: 2\r\nContent-Encoding: {encoding}\r\n\r\n[]"
    )

    assert exchange(demo, head.encode())[0] == 415


@pytest.mark.check("S18")
def test_head_has_the_headers_and_no_body(demo: Demo) -> None:
    target = f"/v1/data/DEMO/STOCKS?token={demo.facts['publishable_token']}"
    with closing(http.client.HTTPConnection("127.0.0.1", demo.port, timeout=5)) as connection:
        connection.request("HEAD", target)
        head = connection.getresponse()
        nothing = head.read()
        connection.request("GET", target)
        after = connection.getresponse()
        after.read()

    assert (head.status, nothing) == (200, b"")
    assert int(head.headers["content-length"]) > 2
    assert after.status == 200  # The connection is still in step.


class Callers:
    """Many kept connections, so that every worker has some."""

    def __init__(self, demo: Demo, target: str, count: int = 40) -> None:
        self.target = target
        self.wires = [http.client.HTTPConnection("127.0.0.1", demo.port, timeout=5) for _ in range(count)]

    def reach_both(self, demo: Demo) -> None:
        """Open more until two workers have some: the kernel gives a connection to any that waits for one."""

        def both() -> bool:
            self.wires.append(http.client.HTTPConnection("127.0.0.1", demo.port, timeout=5))
            self.ask()
            return workers_with_connections(demo) == 2

        until(both)

    def ask(self) -> list[int]:
        statuses = []
        for wire in self.wires:
            wire.request("GET", self.target)
            reply = wire.getresponse()
            reply.read()
            statuses.append(reply.status)
        return statuses

    def close(self) -> None:
        for wire in self.wires:
            wire.close()


@pytest.mark.check("S07")
def test_what_the_page_calls_disabled_is_refused_by_both_workers(demo: Demo) -> None:
    """S07: no worker lets the token pass once the page has answered, and both once it is enabled again."""
    person = Dashboard(demo)
    token_id = token_id_of(demo, demo.facts["publishable_token"])
    form = f"/tokens/{token_id}/"
    with closing(Callers(demo, f"/v1/data/DEMO/STOCKS?token={demo.facts['publishable_token']}")) as callers:
        callers.reach_both(demo)
        assert set(callers.ask()) == {200}

        for _ in range(10):
            person.post(f"{form}disable/", page=form)
            assert set(callers.ask()) == {403}
            person.post(f"{form}enable/", page=form)
            assert set(callers.ask()) == {200}


def test_a_worker_that_does_not_follow_is_named_in_the_answer(demo: Demo) -> None:
    """S07: one worker stands still; the change is stored, and the answer says that not all follow it yet."""
    secret = {"Authorization": f"Bearer {demo.facts['secret_token']}"}
    token_id = token_id_of(demo, demo.facts["publishable_token"])

    years = itertools.count(2100)

    def change() -> str | None:
        """How many workers have not confirmed; asked over new connections until one is answered."""
        while True:
            wire = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=6)
            try:
                # Each time another time: who changes nothing waits for nobody.
                body = json.dumps({"expiresAt": f"{next(years)}-01-01T00:00:00Z"})
                wire.request("PATCH", f"/v1/tokens/{token_id}", body, secret)
                with wire.getresponse() as reply:
                    if reply.read().endswith(b"too many connections.\r\n"):
                        continue  # It waited for the worker that stands still, and was refused for it.
                    assert reply.status == 200
                    return reply.getheader("Apperate-Unconfirmed-Workers")
            except (TimeoutError, ConnectionError):  # That worker had taken this connection.
                continue
            finally:
                wire.close()

    stopped = demo.pids("apperate.running.server")[-1]
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert change() == "1"
    finally:
        os.kill(stopped, signal.SIGCONT)
    until(lambda: change() is None)


def token_id_of(demo: Demo, value: str) -> str:
    code = f"from tokens.models import Token; print(Token.objects.get(secrets__clear='{value}').public_id)"
    return demo.manage("shell", "-c", code).split()[-1]


def workers_with_connections(demo: Demo) -> int:
    """How many server processes hold an established connection on the port."""
    mark = f":{demo.port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {line[9] for line in lines if line[1].endswith(mark) and line[3] == "01"}
    holders = set()
    for pid in demo.pids("apperate.running.server"):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:[") and target[8:-1] in inodes:
                holders.add(pid)
    return len(holders)


def test_a_worker_that_is_killed_comes_back(demo: Demo) -> None:
    """E-W1 in small: a killed worker is replaced, and requests are answered again within seconds."""
    workers = demo.pids("apperate.running.server")
    os.kill(workers[-1], signal.SIGKILL)

    def answers() -> bool:
        try:
            return get(demo, "/v1/status")[0] == 200 and len(demo.pids("apperate.running.server")) == len(
                workers
            )
        except OSError:
            return False

    until(answers, seconds=10)


@pytest.mark.parametrize("megabytes", [0.2, 2, 9])
def test_a_refusal_before_the_body_is_read_reaches_whoever_still_sends(demo: Demo, megabytes: float) -> None:
    """Its client would see a broken pipe, and send the body again."""
    for _ in range(5):
        with closing(http.client.HTTPConnection("127.0.0.1", demo.port, timeout=20)) as connection:
            token = "pk_" + "0" * 40
            connection.request("POST", f"/v1/record/DEMO/CARS?token={token}", b" " * int(megabytes * 1e6))
            answer = connection.getresponse()
            problem = json.loads(answer.read())
            assert (answer.status, problem["code"]) == (403, "token-invalid")


def test_a_body_that_never_ends_gets_its_refusal_all_the_same(demo: Demo) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", demo.port, timeout=20)) as connection:
        connection.putrequest("POST", f"/v1/record/DEMO/CARS?token=pk_{'0' * 40}")
        connection.putheader("Content-Length", "5000000")
        connection.endheaders(b" " * 1000)
        answer = connection.getresponse()

        assert 401 <= answer.status <= 403
        assert answer.headers["Connection"] == "close"
