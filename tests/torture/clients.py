"""The clients of an experiment: processes that write, read, spend, edit and try what they must not do.

    with playing(stage, folder, seed, Load(writers=4)) as players: …fault…
    players.history()

`python -m tests.torture.clients` is one such process: a plan as JSON on the first line of its input, and it
plays until the input ends. Then nothing new is begun, and what is of unknown end is sent again with its key.
"""

import asyncio
import contextlib
import json
import random
import secrets
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tests.support.installation import ROOT
from tests.torture import history
from tests.torture.history import End, Log, Request
from tests.torture.stage import BATCHES, CLOSED, PRICED, Stage
from tests.torture.wire import LOST, Answer, Wire

PATIENCE_SECONDS = 40  # for how long a retry goes on after the input has ended
RETRY_SECONDS_MAX = 1.0
# Says with a change of a token that a worker does not follow it yet; it does so within these seconds.
UNCONFIRMED, UNCONFIRMED_SECONDS = "apperate-unconfirmed-workers", 5.0
SWITCH_WIRES = 6


@dataclass(frozen=True)
class Load:
    """How many of each play in each process, and how large the batches are."""

    writers: int = 3
    readers: int = 1
    spenders: int = 0
    editors: int = 1
    trespassers: int = 1
    switchers: int = 1
    probes: int = 1
    pages: int = 0
    processes: int = 2
    records: tuple[int, int] = (1, 100)
    lines: tuple[int, int] = (200, 2_000)
    file_share: float = 0.2
    keyless_share: float = 0.15
    replay_share: float = 0.2  # of what was acknowledged, sent again with its key
    pause_seconds: float = 0.02
    probe_seconds: float = 0.05


@dataclass
class Plan:
    """What one process plays."""

    name: str
    has_switch: bool
    seed: int
    port: int
    cast: dict[str, str]
    ids: dict[str, tuple[str, int]]
    load: Load
    history: str


class Player:
    """One task with a connection and a history of its own."""

    def __init__(self, troupe: "Troupe", role: str, number: int) -> None:
        self.troupe, self.plan, self.load = troupe, troupe.plan, troupe.plan.load
        self.name = f"{self.plan.name}.{role}{number}"
        self.log = Log(troupe.file, self.name)
        self.random = random.Random(f"{self.plan.seed} {self.name.partition('.')[2]}")
        self.wire = Wire(self.plan.port)
        self.count = 0

    async def ask(
        self,
        act: str,
        method: str,
        target: str,
        *,
        token: str = "",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        seconds_max: float = 15,
        told: Callable[[Answer], dict[str, Any]] = lambda answer: {},
        **asked: Any,
    ) -> tuple[End, Answer | None]:
        """One request and its line of history."""
        number = self.log.invoke(act, **asked)
        try:
            answer = await self.wire.ask(
                method,
                target,
                token=self.plan.cast.get(token, token),
                headers=headers,
                body=body,
                seconds_max=seconds_max,
            )
        except LOST as error:
            self.log.end(number, "unknown", status=0, code=type(error).__name__)
            return "unknown", None
        facts = {"status": answer.status, "code": answer.code if answer.status >= 400 else ""}
        if "retry-after" in answer.headers:
            facts["retry"] = answer.headers["retry-after"]
        if answer.status == 200:
            facts |= told(answer)
        how = end_of(answer)
        self.log.end(number, how, **facts)
        return how, answer

    async def pause(self, seconds: float) -> None:
        await self.troupe.rest(seconds * self.random.uniform(0.5, 1.5))

    # --- what they play ---------------------------------------------------------------------------

    async def writer(self) -> None:
        self.count += 1
        is_file = self.random.random() < self.load.file_share
        size = self.random.randint(*(self.load.lines if is_file else self.load.records))
        batch = f"{self.name}-{self.count}-{size}"
        has_key = is_file or self.random.random() >= self.load.keyless_share
        self.troupe.batches.append((batch, size))
        send = self.file(batch, size) if is_file else self.records(batch, size)
        target, body = send
        headers = {"Idempotency-Key": batch} if has_key else {}
        asked = {"batch": batch, "size": size, "key": has_key, "way": target.split("/")[2]}
        patience = time.monotonic() + 10 * PATIENCE_SECONDS
        while True:
            how, answer = await self.ask(
                "write", "POST", target, token="writer", headers=headers, body=body,
                seconds_max=75 if is_file else 15, **asked,
            )  # fmt: skip
            if how == "ok" or not has_key or not may_retry(answer) or time.monotonic() > patience:
                break
            if self.troupe.ends_at and time.monotonic() > self.troupe.ends_at + PATIENCE_SECONDS:
                break
            await asyncio.sleep(retry_seconds(answer))
        if how == "ok" and has_key and self.random.random() < self.load.replay_share:
            await asyncio.sleep(0.05)
            await self.ask(
                "replay", "POST", target, token="writer", headers=headers, body=body, batch=batch,
                wall=time.time(), seconds_max=75,
            )  # fmt: skip
        await self.pause(self.load.pause_seconds)

    def records(self, batch: str, size: int) -> tuple[str, bytes]:
        found = [{"batch": batch, "number": str(n), "filler": "x" * 60} for n in range(size)]
        return f"/v1/record/{BATCHES}?duplicateKeyHandling=replace", json.dumps(found).encode()

    def file(self, batch: str, size: int) -> tuple[str, bytes]:
        target = f"/v1/data/{BATCHES}?wait=true&duplicateKeyHandling=replace"
        if self.random.random() < 0.5:
            return target, self.records(batch, size)[1]
        lines = ["batch,number,filler", *(f"{batch},{n},{'y' * 60}" for n in range(size))]
        return target, ("\n".join(lines) + "\n").encode()

    async def reader(self) -> None:
        if self.troupe.batches:
            batch, _ = self.random.choice(self.troupe.batches)
            await self.ask(
                "read", "GET", f"/v1/data/{BATCHES}/{batch}?limit=5000", token="reader", batch=batch,
                limit=5_000, told=lambda answer: {"found": len({one["number"] for one in answer.document})},
            )  # fmt: skip
        await self.pause(self.load.pause_seconds)

    async def spender(self) -> None:
        token = self.random.choice([name for name in self.plan.cast if name.startswith("limited")])
        _, answer = await self.ask(
            "spend", "GET", f"/v1/data/{PRICED}?limit=1", token=token, account=token, cost=1,
            told=lambda answer: {"served": len(answer.document)},
        )  # fmt: skip
        # Whoever has spent all asks no more than now and then.
        await self.pause(0.5 if answer and answer.status == 402 else self.load.pause_seconds / 2)

    async def editor(self) -> None:
        self.count += 1
        token = self.random.choice([name for name in self.plan.cast if name.startswith("edited")])
        nickname = f"edit {self.name} {self.count}"
        await self.ask(
            "edit", "PATCH", f"/v1/tokens/{self.plan.ids[token][0]}", token="secret", nickname=nickname,
            body=json.dumps({"nickname": nickname}).encode(),
        )  # fmt: skip
        await self.pause(4 * self.load.pause_seconds)

    async def trespasser(self) -> None:
        """Each way to ask for what one may not have."""
        name, method, path, token, body = self.random.choice(
            [
                ("no grant", "GET", f"data/{CLOSED}", "reader", None),
                ("no grant of another workspace", "GET", f"data/{BATCHES}", "stranger", None),
                (
                    "no right to write",
                    "POST",
                    f"record/{BATCHES}",
                    "reader",
                    b'{"batch": "t", "number": "1"}',
                ),
                ("no page that is allowed", "GET", f"data/{CLOSED}", "elsewhere", None),
                ("no token", "GET", f"data/{BATCHES}", "", None),
                ("a made-up token", "GET", f"data/{BATCHES}", "pk_" + "0" * 32, None),
                ("not the secret token", "GET", "tokens", "writer", None),
            ]
        )
        await self.ask("trespass", method, f"/v1/{path}", token=token, body=body, why=name)
        await self.pause(4 * self.load.pause_seconds)

    async def switcher(self) -> None:
        """Disable a token; once that was answered, nobody passes with it any more."""
        if not self.plan.has_switch:
            return await self.troupe.rest(60)
        place = f"/v1/tokens/{self.plan.ids['switched'][0]}"
        own, others = (
            self.wire,
            [Wire(self.plan.port) for _ in range(SWITCH_WIRES)],
        )  # so that each worker is asked
        await self.through(others, "warm")
        self.wire = own
        how, answer = await self.ask("switch", "POST", f"{place}/disable", token="secret", to="off")
        if how == "ok" and answer is not None:
            # A worker that has not confirmed follows within this time, or refuses everything.
            await asyncio.sleep(UNCONFIRMED_SECONDS if UNCONFIRMED in answer.headers else 0)
            await self.through(others, "trespass")
        self.wire = own
        for wire in others:
            wire.close()
        await self.ask("switch", "POST", f"{place}/enable", token="secret", to="on")
        await self.pause(1)

    async def through(self, wires: list[Wire], act: str) -> None:
        """Read with the switched token over each of these connections."""
        for self.wire in wires:
            await self.ask(act, "GET", f"/v1/data/{BATCHES}/none", token="switched", why="a disabled token")

    async def probe(self) -> None:
        """An ordinary read on a new connection, at an even pace: how long is one without an answer?"""
        self.wire.close()
        await self.ask("probe", "GET", f"/v1/data/{BATCHES}/none", token="reader", seconds_max=10)
        await self.pause(self.load.probe_seconds)

    async def page(self) -> None:
        for path in ("/livez", "/readyz", "/account/login/", "/v1/status"):
            await self.ask("page", "GET", path, path=path, seconds_max=10)
        await self.pause(self.load.probe_seconds)


class Troupe:
    """All players of this process."""

    def __init__(self, plan: Plan, file: TextIO) -> None:
        self.plan, self.file = plan, file
        self.batches: deque[tuple[str, int]] = deque(maxlen=300)
        self.ended = asyncio.Event()
        self.ends_at = 0.0

    async def play(self) -> None:
        load = self.plan.load
        roles: list[tuple[int, Callable[[Player], Awaitable[None]]]] = [
            (load.writers, Player.writer),
            (load.readers, Player.reader),
            (load.spenders, Player.spender),
            (load.editors, Player.editor),
            (load.trespassers, Player.trespasser),
            (load.switchers, Player.switcher),
            (load.probes, Player.probe),
            (load.pages, Player.page),
        ]
        tasks = [
            asyncio.create_task(self.repeat(Player(self, act.__name__, number), act))
            for count, act in roles
            for number in range(count)
        ]
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        self.ends_at = time.monotonic()
        self.ended.set()
        await asyncio.gather(*tasks)

    async def repeat(self, player: Player, act: Callable[[Player], Awaitable[None]]) -> None:
        while not self.ended.is_set():
            await act(player)
        player.wire.close()

    async def rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)


def end_of(answer: Answer) -> End:
    """What an answer says of the change: 409 and 5xx do not tell, but for 507, which stored nothing."""
    if answer.status == 200:
        return "ok"
    is_refused = answer.status == 507 or (400 <= answer.status < 500 and answer.status != 409)
    return "fail" if is_refused else "unknown"


def may_retry(answer: Answer | None) -> bool:
    """As docs/errors.md says: without an answer, and after "later"."""
    return answer is None or answer.status in {409, 429, 500, 502, 503, 504, 507}


def retry_seconds(answer: Answer | None) -> float:
    """What the answer asks for, within what an experiment has time for."""
    named = answer.headers.get("retry-after", "") if answer else ""
    return min(float(named) if named.isdigit() else 0.2, RETRY_SECONDS_MAX)


@dataclass
class Players:
    """The processes of one experiment."""

    folder: Path
    processes: list["subprocess.Popen[str]"] = field(default_factory=list)

    def history(self) -> list[Request]:
        return history.read(sorted(self.folder.glob("*.jsonl")))

    def stop(self) -> None:
        for process in self.processes:
            if process.stdin and not process.stdin.closed:
                process.stdin.close()
        for process in self.processes:
            process.wait(timeout=PATIENCE_SECONDS + 120)
            assert process.returncode == 0, f"a client ended with {process.returncode}"


@contextlib.contextmanager
def playing(stage: Stage, folder: Path, seed: int, load: Load) -> Iterator[Players]:
    """Clients that play until the end of the block; then what is of unknown end is resolved."""
    folder.mkdir(parents=True, exist_ok=True)
    players = Players(folder)
    try:
        for number in range(load.processes):
            path = folder / f"{number}.jsonl"
            name = (
                f"{secrets.token_hex(3)}.{number}"  # Histories on one installation have names of their own.
            )
            plan = Plan(name, number == 0, seed, stage.port, stage.cast, stage.ids, load, str(path))
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.clients"], cwd=ROOT, stdin=subprocess.PIPE, text=True
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(plan)) + "\n")
            process.stdin.flush()
            players.processes.append(process)
        yield players
        players.stop()
    finally:
        for process in players.processes:
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()


def main() -> None:
    given = json.loads(sys.stdin.readline())
    load = Load(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.pop("load").items()})
    plan = Plan(**given, load=load)
    with Path(plan.history).open("w") as file:
        asyncio.run(play(plan, file))


async def play(plan: Plan, file: TextIO) -> None:
    await Troupe(plan, file).play()


if __name__ == "__main__":
    main()
