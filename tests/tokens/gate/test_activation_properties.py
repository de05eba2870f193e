"""S07, S19: random edits, undos, apply-nows, clock steps and cache states; who may call follows the one rule.

The database's clock stands still between steps: a function of its name, found first by the connections of the
workers, answers what the test says. Each worker has its own caches, its own clock and its own polls.
"""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection

from apperate.accounts.models import Workspace
from apperate.database import pool
from apperate.database.changes import POLL_SECONDS, Changes
from apperate.kernel.refusals import Refusal
from tests.support.factories import DatasetFactory
from tokens.gate import access, snapshots
from tokens.gate.access import Facts
from tokens.models import Token
from tokens.rules import domains, token_format
from tokens.rules.permissions import Action, Settings, Snapshot, Target, WorkspaceFacts
from tokens.rules.token_format import TokenKind
from tokens.services import lifecycle

SEED = 20_261_126
START = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
SITES = ("https://a.example", "https://b.example", None)
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Versions = list[tuple[Settings, datetime]]  # with the time each starts, oldest first
FIELDS: tuple[list[str], ...] = ([], [], ["a.example"], ["b.example"], ["a.example", "b.example"])


def any_settings(chance: random.Random, dataset_ids: list[int]) -> Settings:
    both = frozenset({Action.READ, Action.WRITE})
    actions = (frozenset(), frozenset({Action.READ}), both, both)
    return Settings(
        core_data_access=False,
        grants={pk: granted for pk in dataset_ids if (granted := chance.choice(actions))},
        all_datasets=frozenset({Action.READ}) if chance.random() < 0.3 else frozenset(),
        allowed_domains=domains.load(chance.choice(FIELDS)),
        domains_report_only=chance.random() < 0.2,
    )


def any_facts(chance: random.Random, dataset_ids: list[int]) -> Facts:
    target = Target("ACME", "PRICES", chance.choice(dataset_ids))
    return Facts(chance.choice([Action.READ, Action.WRITE]), target, origin=chance.choice(SITES))


def lets_pass(version: Settings, facts: Facts) -> bool:
    """The oracle: what one version alone says, in the plain words of the form."""
    listed = [f"https://{rule}" for rule in version.allowed_domains]
    may_call = version.domains_report_only or not listed or facts.origin in listed
    assert facts.target is not None and facts.target.id is not None
    granted = version.grants.get(facts.target.id, frozenset()) | version.all_datasets
    return may_call and facts.action in granted


# --- one moment ---------------------------------------------------------------------------------


@pytest.mark.check("S19")
def test_a_request_passes_only_when_each_version_that_counts_lets_it_pass() -> None:
    """And "not active yet" is said exactly where the pending version alone would let it pass."""
    chance = random.Random(SEED)
    seen = set()
    for _ in range(3_000):
        in_force = any_settings(chance, [1, 2]) if chance.random() < 0.9 else None
        pending = any_settings(chance, [1, 2]) if chance.random() < 0.7 or in_force is None else None
        starts = START + timedelta(seconds=120)
        token = Snapshot(
            1, "tok_1", TokenKind.PUBLISHABLE, "", WorkspaceFacts(1, "ACME", False),
            in_force=in_force, pending=pending, effective_at=starts if pending else None,
        )  # fmt: skip
        facts = any_facts(chance, [1, 2])
        seconds = chance.choice([-3600, 0, 119.999999, 120, 120.000001, 3600])
        now = START + timedelta(seconds=seconds)

        refusal = access.check_settings(token, facts, now=now)

        has_started = pending is not None and seconds >= 120
        counts = [pending] if has_started else [v for v in (in_force, pending) if v is not None]
        waits = pending is not None and not has_started
        passes = all(lets_pass(v, facts) for v in counts) and (in_force is not None or has_started)
        assert (refusal is None) == passes
        if refusal is not None:
            waited_for = in_force is None or (pending is not None and lets_pass(pending, facts))
            assert (refusal.code == "not-active-yet") == (waits and waited_for)
            assert (refusal.retry_after_seconds is not None) == (refusal.code == "not-active-yet")
        seen.add((len(counts), has_started, refusal.code if refusal else ""))
    assert {code for _, _, code in seen} == {
        "", "domain-not-allowed", "dataset-not-granted", "not-active-yet",
    }  # fmt: skip


# --- sequences ----------------------------------------------------------------------------------


@dataclass
class Known:
    """What the rule says of a token since a change: its versions that may count, and when they start."""

    versions: Versions
    is_disabled: bool = False

    def lets_pass(self, facts: Facts, now: datetime) -> bool:
        in_force, waiting = parts(self.versions, now)
        counting = [*in_force, *waiting]
        return bool(in_force) and not self.is_disabled and all(lets_pass(v, facts) for v, _ in counting)


def parts(versions: Versions, now: datetime) -> tuple[Versions, Versions]:
    """What is in force and what waits. Of two the first is, or was when the other one was saved."""
    if versions[-1][1] <= now:
        return versions[-1:], []
    return versions[:-1], versions[-1:]


@dataclass
class World:
    """The two clocks, the database's and the one that only goes forward, and what was known when."""

    now: datetime = START
    elapsed: float = 0.0
    ahead_seconds: float = 0.0  # how far a worker may be that has not polled since the clock was set back
    history: list[Known] = field(default_factory=list)
    workers: list["Worker"] = field(default_factory=list)

    def set_clock(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE steps.clock SET at = %s", [self.now])


class Worker:
    """The caches and the clock of one server process."""

    def __init__(self, run: Run, world: World) -> None:
        self.run, self.world = run, world
        self.cache, self.changes = snapshots.SnapshotCache(), Changes()
        self.changes.listen("tokens_token", self.cache.evict_tokens, self.cache.clear)
        world.workers.append(self)
        self.poll()

    def close(self) -> None:
        self.run(self.changes.stop())
        self.world.workers.remove(self)

    def poll(self) -> None:
        self.run(self.changes.poll())
        self.heard_at, self.heard_of = self.world.elapsed, len(self.world.history)

    def verdict(self, value: str, facts: Facts, monkeypatch: pytest.MonkeyPatch) -> Refusal | None:
        monkeypatch.setattr(snapshots, "cache", self.cache)
        monkeypatch.setattr(snapshots, "changes", self.changes)
        parsed = token_format.parse(value)
        assert not isinstance(parsed, Refusal)
        snapshot = self.run(snapshots.for_value(parsed))
        assert snapshot is not None
        return access.check_settings(snapshot, facts, now=self.changes.now())


@pytest.fixture
def world(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA steps; CREATE TABLE steps.clock (at timestamptz)")
        cursor.execute("INSERT INTO steps.clock VALUES (%s)", [START])
        cursor.execute(
            "CREATE FUNCTION steps.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
            "AS 'SELECT at FROM steps.clock'"
        )
    arguments = pool.connection_arguments()
    options = f"{arguments.get('options', '')} -c search_path=steps,public,pg_catalog"
    monkeypatch.setattr(pool, "connection_arguments", lambda: {**arguments, "options": options})
    monkeypatch.setattr("apperate.database.changes.time", SimpleNamespace(monotonic=lambda: world.elapsed))
    # These workers poll when the sequence says so: nobody is to wait for them.
    monkeypatch.setattr("apperate.database.propagation.CONFIRM_SECONDS_MAX", 0)
    yield world
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA steps CASCADE")


@pytest.fixture
def run(world: World) -> Iterator[Run]:
    """Wait for a coroutine on the workers' event loop, which has a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield (run := lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=60))
    for worker in list(world.workers):
        worker.close()
    run(pool.pools.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=5)
    loop.close()


class Sequence:
    """One token, edited at random, and what the rule says of it."""

    def __init__(self, chance: random.Random, world: World, workspace: Workspace) -> None:
        self.chance, self.world = chance, world
        self.dataset_ids = [DatasetFactory(workspace=workspace).pk for _ in range(2)]
        self.saved = any_settings(chance, self.dataset_ids)
        token = lifecycle.create_publishable_token(
            workspace=workspace, by=None, now=world.now, settings=self.saved
        )
        assert isinstance(token, Token)
        self.token, self.is_disabled = token, False
        self.versions = [(self.saved, world.now + lifecycle.delay())]
        self.known()
        self.known_from = len(world.history)

    def known(self) -> None:
        self.world.history.append(Known(list(self.versions), self.is_disabled))

    def save(self) -> None:
        in_force, _ = parts(self.versions, self.world.now)
        edit = any_settings(self.chance, self.dataset_ids)
        part = self.chance.choice(["grants", "all_datasets", "allowed_domains", "domains_report_only"])
        changes = replace(self.saved, **{part: getattr(edit, part)}) if self.chance.random() < 0.5 else edit
        outcome = lifecycle.save_settings(
            token=self.token, changes=changes, by=None, now=self.world.now, based_on=None
        )
        assert not isinstance(outcome, Refusal)
        assert (outcome.revision is None) == (changes == self.saved)
        if outcome.revision is not None:
            self.saved = changes
            self.versions = [*in_force, (changes, self.world.now + lifecycle.delay())]

    def undo(self) -> None:
        in_force, waiting = parts(self.versions, self.world.now)
        outcome = lifecycle.undo_pending(token=self.token, by=None, now=self.world.now)
        assert isinstance(outcome, Refusal) == (not in_force or not waiting)
        if not isinstance(outcome, Refusal):
            self.versions, self.saved = in_force, in_force[0][0]

    def apply_now(self) -> None:
        in_force, waiting = parts(self.versions, self.world.now)
        outcome = lifecycle.apply_now(token=self.token, by=None, now=self.world.now)
        assert isinstance(outcome, Refusal) == (not waiting)
        if waiting:
            self.versions = [*in_force, (waiting[0][0], self.world.now)]

    def switch(self) -> None:
        change = lifecycle.enable if self.is_disabled else lifecycle.disable
        change(token=self.token, by=None, now=self.world.now)
        self.is_disabled = not self.is_disabled

    def step(self) -> None:
        change = self.chance.choices([self.save, self.undo, self.apply_now, self.switch], [8, 2, 2, 1])[0]
        change()
        self.known()


def advance(chance: random.Random, world: World, workers: list[Worker], starts: list[datetime]) -> None:
    """Let time pass, to a moment beside a start or by any amount; a worker polls every half second."""
    to_a_start = [(at - world.now).total_seconds() + by for at in starts for by in (-0.001, 0, 0.001)]
    seconds = chance.choice([0.1, 0.4, 1.0, 30.0, 60.0, *[s for s in to_a_start if s > 0]])
    world.now += timedelta(seconds=seconds)
    world.elapsed += seconds
    if chance.random() < 0.1:  # Somebody sets the database server's clock; the monotonic one goes on.
        seconds = chance.choice([3600, 1, -1, -150, -3600])
        world.now += timedelta(seconds=seconds)
        world.ahead_seconds = max(0.0, world.ahead_seconds - seconds)
    world.set_clock()
    for worker in workers:
        if world.elapsed - worker.heard_at >= POLL_SECONDS:
            worker.poll()
    if all(worker.heard_at == world.elapsed for worker in workers):
        world.ahead_seconds = 0.0


@pytest.mark.check("S07", "S19")
@pytest.mark.parametrize("seed", range(2))
def test_random_sequences_follow_the_one_rule_on_every_worker(
    world: World,
    workspace: Workspace,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Widening is never early and on all workers at one instant; narrowing is known by the next poll."""
    chance = random.Random(SEED + seed)
    workers = [Worker(run, world), Worker(run, world)]
    answers = Counter(
        passes for _ in range(3) for passes in walk(Sequence(chance, world, workspace), workers, monkeypatch)
    )
    assert min(answers[True], answers[False]) > 50


def walk(sequence: Sequence, workers: list[Worker], monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Edit the token or let time pass, 50 times, and ask every worker after each."""
    chance, world, value = sequence.chance, sequence.world, sequence.token.value
    for _ in range(50):
        if chance.random() < 0.4:
            sequence.step()
        else:
            advance(chance, world, workers, [at for _, at in sequence.versions])
        started = Worker(workers[0].run, world)
        for worker in (*workers, started):
            if chance.random() < 0.2:
                worker.cache.clear()
            facts = any_facts(chance, sequence.dataset_ids)
            now = worker.changes.now()
            assert now <= world.now + timedelta(seconds=world.ahead_seconds)

            passes = worker.verdict(value, facts, monkeypatch) is None

            # What it may know: all that has held since its last poll. Without a change that is one thing.
            may_know = world.history[max(worker.heard_of, sequence.known_from) - 1 :]
            assert passes in {known.lets_pass(facts, now) for known in may_know}
            yield passes
        started.close()
