"""S01, S09: tokens are used in every way, and then every file that an installation leaves is searched."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from apperate.kernel import logs
from tests.site.test_whole_site import log_line
from tests.support.installation import Demo, started
from tokens.rules import token_format
from tokens.rules.token_format import TokenKind

TOKENS = 10
SIGNING_SECRETS = """
import json
from django.utils import timezone
from tokens.models import Token
from tokens.services import lifecycle
print(json.dumps([
    lifecycle.reveal_signing_secret(token=one, by=None, now=timezone.now(), address="127.0.0.1")
    for one in Token.objects.filter(public_id__in=IDS)
]))
"""


class Used(Demo):
    """An installation that writes a line for every request, stopped after tokens were used in it."""

    def environment(self, **changes: str) -> dict[str, str]:
        return super().environment(APPERATE_SLOW_REQUEST_MS="1", **changes)

    def start(self) -> None:
        super().start()
        self.secret = self.facts["secret_token"]
        made = [self.answer("POST", "/v1/tokens", self.secret, {"nickname": f"n{n}"}) for n in range(TOKENS)]
        self.publishable = [one["token"] for one in made]
        script = f"IDS = {[one['id'] for one in made]!r}\n{SIGNING_SECRETS}"
        self.signing = json.loads(self.manage("shell", "-c", script).splitlines()[-1])
        for value in (self.secret, *self.publishable):
            self.use(value)
        for one in made[::2]:
            rotated = self.answer(
                "POST", f"/v1/tokens/{one['id']}/rotate", self.secret, {"overlapSeconds": 0}
            )
            self.publishable.append(rotated["token"])
        self.stop()

    def answer(self, method: str, path: str, value: str, body: Any) -> Any:
        headers = {"Authorization": f"Bearer {value}"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, json.dumps(body), headers)
            return json.loads(connection.getresponse().read())

    def use(self, value: str) -> None:
        """Send it in every place, also where it does not belong, and to addresses of every kind."""
        escaped = "".join(f"%{byte:02x}" for byte in value.encode())
        for method, target, headers in (
            ("GET", f"/v1/data/DEMO/STOCKS?limit=1&token={value}", {}),
            ("GET", f"/v1/data/DEMO/STOCKS?limit=1&token={escaped}", {}),
            ("GET", "/v1/data/DEMO/STOCKS?limit=1", {"Authorization": f"Bearer {value}"}),
            ("GET", "/v1/data/DEMO/STOCKS?limit=1", {"X-API-Key": value}),
            ("GET", "/v1/data/DEMO/STOCKS", {"Authorization": f"Basic {value}", "User-Agent": value}),
            (
                "GET",
                f"/v1/data/DEMO/STOCKS?limit=-1&token={value}",
                {"Referer": f"https://a.example/{value}"},
            ),
            ("GET", f"/v1/data/DEMO/{value}?token={value}", {}),
            ("GET", f"/v1/data/DEMO/STOCKS/{value}?where={value}&token={value}", {}),
            ("GET", f"/v1/{escaped}?token={value}", {"X-Request-Id": value}),
            ("GET", f"/v1/data/DEMO/STOCKS?token={value}&token={value}x", {}),
            ("PUT", f"/v1/data/DEMO/STOCKS?token={value}", {"Idempotency-Key": value}),
            ("POST", f"/v1/record/DEMO/STOCKS?token={value}", {"Content-Type": value}),
            ("GET", f"/?token={value}", {"Cookie": f"session={value}"}),
            ("GET", f"/{value}/?token={value}", {"Host": value}),
            ("GET", f"/account/login/?next=/%3Ftoken%3D{value}", {}),
            ("POST", f"/account/login/?token={value}", {"X-CSRFToken": value, "Origin": f"https://{value}"}),
        ):
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
                connection.request(method, target, json.dumps({"token": value}), headers)
                assert connection.getresponse().status < 500, target


@pytest.fixture(scope="module")
def used() -> Iterator[Used]:
    with started(Used) as used:
        yield used


def files_with(values: list[str], *places: Path) -> list[str]:
    """The files at or below these places that hold one of the values."""
    wanted = [value.encode() for value in values]
    found = []
    for place in places:
        for file in [place] if place.is_file() else sorted(place.rglob("*")):
            if file.is_file() and not file.is_symlink():
                content = file.read_bytes()
                found += [f"{file}: {value[:8]!r}" for value in wanted if value in content]
    return found


@pytest.mark.check("S01")
@pytest.mark.server
def test_no_secret_value_and_no_signing_secret_is_in_any_file(used: Used) -> None:
    """Tables, write-ahead log, uploads, keys, logs: all that a copy of the disk would hold."""
    assert len(used.signing) == TOKENS

    assert files_with([used.secret, *used.signing], used.home, used.log) == []


@pytest.mark.check("S09")
@pytest.mark.server
def test_no_value_that_was_sent_is_in_a_log(used: Used) -> None:
    """A publishable value is stored, because its page shows it; lines and other files never have it."""
    said = used.said()
    assert said.count("slow request") > 10 and "/v1/data/DEMO/STOCKS" in said
    cluster = used.home / "db" / "pg"
    others = [place for place in (*used.home.iterdir(), *cluster.glob("*log*")) if place != used.home / "db"]

    assert files_with([used.secret, *used.publishable], used.log, *others) == []
    # Nor anything much shorter that would do as a hint.
    assert files_with([value[:24] for value in (used.secret, *used.publishable)], used.log) == []


@pytest.mark.check("S09")
@pytest.mark.parametrize("kind", TokenKind)
def test_an_error_that_quotes_a_value_is_logged_without_it(kind: TokenKind) -> None:
    """What a fault or a time-out carries: the message of the exception, the statement, its parameters."""
    value = token_format.make(kind)

    for text in (value, f"canceling statement: SELECT '{value}'", f"?token={quote(value)}&x", value.upper()):
        for rendering in (logs.JSON, logs.PLAIN):
            line = log_line(rendering, text, RuntimeError(text))
            assert value[:24] not in line.lower()
            assert "RuntimeError" in line
