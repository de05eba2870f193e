"""The checker finds each violation that is planted, and nothing in a history that holds."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.torture import history
from tests.torture.checker import Account, StoredBatch, Tables, judge
from tests.torture.history import End, Log, Request


def request(
    act: str, at: float, end: End = "ok", told: dict[str, Any] | None = None, **asked: Any
) -> Request:
    ended_at = float("inf") if end == "unknown" else at + 0.5
    return Request("client", act, at, asked, end, ended_at, told or {})


def write(batch: str, at: float, end: End = "ok", *, size: int = 10, key: bool = True) -> Request:
    return request("write", at, end, batch=batch, size=size, key=key)


def read(batch: str, at: float, found: int) -> Request:
    return request("read", at, told={"found": found}, batch=batch, limit=5_000)


def spend(at: float, end: End = "ok", served: int = 1) -> Request:
    return request("spend", at, end, {"served": served}, account="LIMITED", cost=1)


def edit(nickname: str, at: float, end: End = "ok") -> Request:
    return request("edit", at, end, nickname=nickname)


# One of everything that may happen, and the tables that fit it.
HISTORY = [
    write("acknowledged", 1),
    write("retried", 2, "unknown"),
    write("retried", 3),
    write("unknown-stored", 4, "unknown"),
    write("unknown-absent", 5, "unknown"),
    write("refused", 6, "fail"),
    read("acknowledged", 7, 10),
    read("unknown-absent", 8, 0),
    request("replay", 9, batch="retried", wall=109.0),
    *(spend(10 + n) for n in range(8)),
    spend(20, "unknown"),
    spend(21, "fail"),
    request("trespass", 22, "fail", {"status": 403}, why="no grant"),
    edit("first", 23),
    edit("second", 24, "unknown"),
    edit("third", 25, "unknown"),
    edit("fourth", 26, "fail"),
]


def tables() -> Tables:
    whole = StoredBatch(10, 10, written_at=100.0)
    return Tables(
        batches={"acknowledged": whole, "retried": whole, "unknown-stored": whole},
        jobs={"acknowledged": 1},
        accounts={"LIMITED": Account(charged=9, limit=10, lease_max=5)},
        nicknames=["first", "third"],
    )


def test_a_history_that_holds_has_no_violation() -> None:
    verdict = judge(HISTORY, tables())

    assert (verdict.violations, verdict.holds) == ([], True)
    assert (verdict.acknowledged, verdict.unknown, verdict.refused) == (2, 2, 4)
    assert (verdict.served, verdict.charged) == (8, 9)
    assert not verdict.misrefused


def stored(batch: str, **changes: Any) -> Tables:
    found = tables()
    found.batches[batch] = replace(found.batches.get(batch, StoredBatch(10, 10)), **changes)
    return found


def without(batch: str) -> Tables:
    found = tables()
    del found.batches[batch]
    return found


def charged(credits: int) -> Tables:
    found = tables()
    found.accounts["LIMITED"] = replace(found.accounts["LIMITED"], charged=credits)
    return found


def audited(*nicknames: str) -> Tables:
    found = tables()
    found.nicknames = list(nicknames)
    return found


def jobs(**counts: int) -> Tables:
    found = tables()
    found.jobs = counts
    return found


@pytest.mark.parametrize(
    ("planted", "left", "invariant", "count"),
    [
        ([], without("acknowledged"), "I1", "lost"),
        ([], without("retried"), "I1", "lost"),
        ([read("acknowledged", 30, 0)], tables(), "I1", "lost"),
        ([], stored("acknowledged", rows=5, distinct=5), "I2", "partial"),
        ([], stored("unknown-stored", rows=5, distinct=5), "I2", "partial"),
        ([], stored("acknowledged", transactions=2), "I2", "partial"),
        ([read("unknown-absent", 30, 4)], tables(), "I2", "partial"),
        ([], stored("refused"), "I3", "partial"),
        ([], stored("never-sent"), "I3", "partial"),
        ([], stored("acknowledged", rows=20), "I5", "doubled"),
        ([], stored("retried", written_at=110.0), "I5", "doubled"),
        ([], jobs(acknowledged=2), "I5", "doubled"),
        ([spend(30 + n) for n in range(3)], charged(11), "I4", "overspent"),
        ([spend(30 + n) for n in range(3)], charged(10), "I4", "overspent"),
        ([], charged(7), "I4", "overspent"),
        ([], charged(10), "I5", "doubled"),
        ([request("trespass", 30, why="no grant")], tables(), "I6", "passed"),
        ([], audited("third"), "I7", "audit_missing"),
        ([], audited("first", "first"), "I7", "doubled"),
        ([], audited("first", "fourth"), "I7", "doubled"),
        ([], audited("first", "by nobody"), "I7", "doubled"),
    ],
    ids=[
        "a lost batch", "a lost batch that was retried", "a batch that a later read misses",
        "half an acknowledged batch", "half an unknown batch", "a batch of two transactions",
        "a read of a part", "a refused batch that is stored", "a batch that nobody sent",
        "a batch with every row twice", "a retry that writes again", "two jobs under one key",
        "more served and charged than the limit", "more served than the limit", "a serving without a charge",
        "a double charge", "a read without grant", "a missing audit row", "two audit rows of a change",
        "an audit row of a refused change", "an audit row of no change",
    ],
)  # fmt: skip
def test_a_planted_violation_is_found(
    planted: list[Request], left: Tables, invariant: str, count: str
) -> None:
    verdict = judge([*HISTORY, *planted], left)

    assert not verdict.holds
    assert getattr(verdict, count) >= 1
    assert any(sentence.startswith(invariant) for sentence in verdict.violations), verdict.violations


def test_a_lease_that_a_killed_worker_held_may_stay_charged() -> None:
    assert not judge(HISTORY, charged(10)).holds
    assert judge(HISTORY, charged(10), leases_lost_max=1).holds


def test_without_a_key_each_try_is_a_job_of_its_own() -> None:
    tries = [write("twice", 30, "unknown", key=False), write("twice", 31, key=False)]
    left = stored("twice", rows=10, distinct=10)
    left.jobs = {"twice": 2}

    assert judge([*HISTORY, *tries], left).holds
    left.jobs = {"twice": 3}
    assert judge([*HISTORY, *tries], left).doubled == 1


@pytest.mark.parametrize(
    ("status", "code", "counts"), [(400, "invalid-values", 1), (500, "internal-error", 1), (503, "away", 0)]
)
def test_a_valid_request_that_got_a_400_or_500_is_counted(status: int, code: str, counts: int) -> None:
    told = {"status": status, "code": code}
    refused = request("write", 30, "unknown", told, batch="fine", size=1, key=True)

    found = judge([*HISTORY, refused], tables()).misrefused

    assert found == ({f"write: {status} {code}": 1} if counts else {})


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with path.open("w") as file:
        log = Log(file, "client")
        first, second = log.invoke("write", batch="a"), log.invoke("write", batch="b")
        log.end(second, "ok", status=200)
    text = path.read_text()
    # A client that was killed while it wrote.
    path.write_text(text + text.splitlines()[0][:20])

    found = history.read([path])

    assert first == 1
    assert [(one.asked["batch"], one.end, one.told) for one in found] == [
        ("a", "unknown", {}),
        ("b", "ok", {"status": 200}),
    ]
    assert 0 <= found[1].seconds < 60 and found[0].seconds == float("inf")


def test_what_is_asked_is_on_disk_before_it_is_sent() -> None:
    file = io.StringIO()

    Log(file, "client").invoke("write", batch="a")

    assert '"batch": "a"' in file.getvalue()


def test_what_was_there_before_belongs_to_another_history() -> None:
    before = Tables(
        batches={"earlier": StoredBatch(5, 5)},
        jobs={"earlier": 1},
        accounts={"LIMITED": Account(charged=3, limit=13, lease_max=5)},
        nicknames=["earlier"],
    )
    left = tables()
    left.batches |= before.batches
    left.jobs |= before.jobs
    left.accounts["LIMITED"] = Account(charged=12, limit=13, lease_max=5)
    left.nicknames.append("earlier")

    assert not judge(HISTORY, left).holds
    assert left.since(before) == tables()
