"""The unmodified clients of the older service, against the server that `manage.py up` starts.

docs/old-clients.md lists every call with its request and its answer; here each of them is made.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.clients import installed, listed
from tests.clients.listed import Row
from tests.clients.recorder import Exchange, Recorder
from tests.support.installation import Demo

pytestmark = pytest.mark.server

IEXJS, PYEX, IEXFINANCE = "iexjs", "pyEX", "iexfinance"
KEEP_JOB = "globalThis.job = {}"
# A deleted dataset keeps its id for as long as it may be restored, so each build deletes one of its own.
DELETED = "OLD_QUOTES"


@dataclass
class Made:
    """A call that was made: what the caller got, and what crossed the wire."""

    outcome: installed.Outcome
    exchanges: list[Exchange]


class Session:
    """All calls of one client, in the order of the page: they build on each other."""

    def __init__(self, demo: Demo, client: str, build: str = "") -> None:
        self.token = demo.facts["secret_token"]
        self.deleted = f"{DELETED}_{build.upper()}"
        self.made: dict[Row, Made] = {}
        self.program = installed.javascript(build) if build else installed.python()
        with Recorder(demo.port) as wire:
            address = f"http://127.0.0.1:{wire.port}"
            for block in listed.code(client, address=address, token=self.token):
                assert self.program.run(block).error is None, block
            for row in listed.rows(client):
                self.made[row] = Made(self.program.run(row.call.replace(DELETED, self.deleted)), wire.take())
                value = self.made[row].outcome.value
                if build and isinstance(value, dict) and "jobId" in value:
                    self.program.run(KEEP_JOB.format(json.dumps(value["jobId"])))

    def check(self, row: Row) -> None:
        made = self.made[row]
        found = [listed.seen(exchange, self.token) for exchange in made.exchanges]
        if row.request == "none":
            assert found == []
        else:
            ((request, answer),) = found
            assert listed.fits(row.request, request.replace(self.deleted, DELETED)), request
            assert listed.fits(row.answer, answer.replace(self.deleted, DELETED)), answer
        assert (made.outcome.error is not None) == (row.gets == "an exception"), made.outcome
        if row.gets == "the answer":
            _, headers, body = made.exchanges[0].answer()
            assert headers["content-type"] == "application/json; charset=utf-8"
            assert made.outcome.value == json.loads(body)


@pytest.fixture(scope="module", params=["cjs", "esm"])
def iexjs(demo: Demo, request: pytest.FixtureRequest) -> Iterator[Session]:
    session = Session(demo, IEXJS, request.param)
    yield session
    session.program.close()


@pytest.fixture(scope="module")
def pyex(demo: Demo) -> Iterator[Session]:
    session = Session(demo, PYEX)
    yield session
    session.program.close()


@pytest.fixture(scope="module")
def iexfinance(demo: Demo) -> Iterator[Session]:
    session = Session(demo, IEXFINANCE)
    yield session
    session.program.close()


@pytest.mark.parametrize("row", listed.rows(IEXJS), ids=lambda row: row.call[:60])
def test_a_call_of_iexjs_is_sent_and_answered_as_listed(iexjs: Session, row: Row) -> None:
    iexjs.check(row)


@pytest.mark.parametrize("row", listed.rows(PYEX), ids=lambda row: row.call[:60])
def test_a_call_of_pyex_is_sent_and_answered_as_listed(pyex: Session, row: Row) -> None:
    pyex.check(row)


@pytest.mark.parametrize("row", listed.rows(IEXFINANCE), ids=lambda row: row.call[:60])
def test_a_call_of_iexfinance_is_sent_and_answered_as_listed(iexfinance: Session, row: Row) -> None:
    iexfinance.check(row)


def test_every_method_of_iexjs_on_data_is_listed(iexjs: Session) -> None:
    methods = iexjs.program.run("Object.keys(apperate.constructor.prototype)").value
    called = " ".join(row.call for row in listed.rows(IEXJS))

    assert len(methods) > 40
    assert [name for name in methods if f"apperate.{name}(" not in called] == []


def test_200_calls_in_a_row_have_no_socket_hang_up(demo: Demo) -> None:
    """http-api.md, What old clients need, 3: Connection: close is echoed, or Node uses a closed socket."""
    program = installed.javascript("cjs")
    for block in listed.code(
        IEXJS, address=f"http://127.0.0.1:{demo.port}", token=demo.facts["secret_token"]
    ):
        program.run(block)

    outcome = program.run(
        "(async () => { let got = 0; for (let n = 0; n < 200; n++) "
        'got += (await apperate.queryData({ workspace: "DEMO", id: "STOCKS", key: "AAPL" })).length; '
        "return got; })()"
    )

    program.close()
    assert (outcome.value, outcome.error) == (200, None)


def test_the_lists_of_packages_have_a_hash_for_each_and_no_address() -> None:
    lock = json.loads((installed.HERE / "package-lock.json").read_text())

    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) == 24
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    for name in ("package-lock.json", "requirements.txt", "build.txt"):
        assert "://" not in (installed.HERE / name).read_text(), name
