"""E-L1, E-P1 and E-P2: a long steady load, and very many tokens."""

import asyncio
import os
import statistics
import subprocess
import sys
import time

from tests.support.installation import ROOT, until
from tests.support.load import hostile
from tests.torture.clients import Load
from tests.torture.stage import BATCHES, Stage, memory_mb
from tests.torture.trial import NotThere, Trial, experiment
from tests.torture.wire import LOST, Wire

CAPACITY_SHARE = 0.7
MINUTES = 15
HOUR_SECONDS = 3_600
LIGHT = Load(writers=1, spenders=1, processes=1, pause_seconds=0.2, probe_seconds=1.0, lines=(100, 300))
# Run by `manage.py shell`; the last line it prints is the tokens, one word each.
MANY_TOKENS = """
from apperate.accounts.models import Workspace
from tokens.models import Grant, Revision, Secret, Token
from datasets.models import Dataset
from tests.support.factories import LONG_AGO
from tokens.rules import token_format
from tokens.rules.token_format import TokenKind
workspace = Workspace.objects.get(name="TORTURE")
values = [token_format.make(TokenKind.PUBLISHABLE) for _ in range(COUNT)]
tokens = Token.objects.bulk_create(
    [Token(workspace=workspace, kind="publishable", created_at=LONG_AGO) for _ in values])
Secret.objects.bulk_create([
    Secret(token=token, digest=token_format.digest(value), clear=value, masked=token_format.mask(value))
    for token, value in zip(tokens, values)])
Revision.objects.bulk_create([
    Revision(token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, all_datasets_read=True)
    for token in tokens])
print(" ".join(values))
"""


@experiment("E-L1", "a long steady load at 70 % of what this machine can do")
def steady(trial: Trial) -> None:
    """`TORTURE_MINUTES`: for how many minutes, 15 unless it is set."""
    seconds = trial.long(60 * float(os.environ.get("TORTURE_MINUTES", MINUTES)), 15)
    with trial.embedded() as stage:
        target = f"/v1/data/{BATCHES}/none?token={stage.cast['reader']}"
        capacity = reads_a_second(stage, target, trial.long(10, 3))
        rate = CAPACITY_SHARE * capacity
        spans: list[hostile.Seen] = []
        memory: list[tuple[float, float]] = []
        sessions: list[int] = []
        with trial.played(stage, LIGHT), stage.connect() as connection:
            began = time.monotonic()
            while time.monotonic() < began + seconds:
                spans.append(hostile.probe(stage.port, target, seconds / 12, per_second=rate))
                memory.append((time.monotonic() - began, total_memory(stage)))
                row = connection.execute("SELECT count(*) FROM pg_stat_activity").fetchone()
                assert row is not None
                sessions.append(row[0])
    half = memory[len(memory) // 2 :]
    slope = statistics.linear_regression([at for at, _ in half], [mb for _, mb in half]).slope
    answers = {name for seen in spans for name in seen.answers}
    trial.outcome.figures |= {
        "minutes": round(seconds / 60, 1),
        "reads a second at most": round(capacity),
        "reads a second asked for": round(rate),
        "p99 by span, ms": [round(seen.p99, 1) for seen in spans],
        "memory of server and job worker by span, MB": [round(mb) for _, mb in memory],
        "connections by span": sessions,
    }
    trial.mark("answers", "200 alone", sorted(answers), answers == {"200"})
    grown = memory[-1][1] - half[0][1]
    hourly = slope * HOUR_SECONDS
    shown = f"{hourly:+.1f} MB an hour, {grown:+.1f} MB"
    trial.mark("memory, second half", "< 1 MB an hour, or within 2 MB", shown, hourly < 1 or grown < 2)
    trial.mark(
        "connections", "steady", f"{min(sessions)} to {max(sessions)}", max(sessions) - min(sessions) <= 10
    )
    early, late = (statistics.median(seen.p99 for seen in part) for part in (spans[1:6], spans[-5:]))
    trial.mark("p99, last spans against first", "within 10 %, or 5 ms", f"{early:.1f} to {late:.1f} ms",
               late <= max(1.1 * early, early + 5))  # fmt: skip


def total_memory(stage: Stage) -> float:
    main, workers = stage.servers()
    return sum(map(memory_mb, [main, *workers, *stage.job_workers()]))


def reads_a_second(stage: Stage, target: str, seconds: float) -> float:
    """What 8 clients get that ask again as soon as they are answered."""

    async def one(end: float) -> int:
        wire, count = Wire(stage.port), 0
        while time.monotonic() < end:
            await wire.ask("GET", target)
            count += 1
        wire.close()
        return count

    async def all_of_them() -> int:
        end = time.monotonic() + seconds
        return sum(await asyncio.gather(*(one(end) for _ in range(8))))

    return asyncio.run(all_of_them()) / seconds


@experiment("E-P1", "10,000 tokens × 1,000 datasets with 2,000,000 grants: python -m benchmarks.many_tokens")
def many(trial: Trial) -> None:
    if trial.quick:
        raise NotThere("the benchmark takes minutes, too long for a quick run")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.many_tokens"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    trial.outcome.figures |= {f"line {number + 1}": line for number, line in enumerate(lines)}
    last = done.stderr.strip().splitlines()[-1] if done.returncode else "0"
    trial.mark("the benchmark ends well", "0", last, done.returncode == 0)


@experiment("E-P2", "10,000 tokens that no worker knows ask at once, after a restart")
def stampede(trial: Trial) -> None:
    count = trial.times(10_000, 500)
    with trial.embedded() as stage:
        values = stage.manage("shell", "-c", f"COUNT = {count}\n" + MANY_TOKENS).splitlines()[-1].split()
        for pid in stage.servers()[1]:
            os.kill(pid, 9)
        until(lambda: len(stage.servers()[1]) == stage.workers and stage.status("/readyz") == 200, seconds=60)
        time.sleep(1)
        took, answers = asyncio.run(ask_all(stage, values))
        with stage.connect() as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user"
            ).fetchone()
            assert row is not None
    took.sort()
    p99 = took[int(0.99 * len(took))]
    trial.outcome.figures["answers"] = answers
    trial.mark("p99 of 64 clients", "< 1 s", p99, p99 < 1)
    trial.mark("answers", "200 alone", answers, set(answers) == {"200"})
    trial.mark("connections to the database", "<= 74", row[0], row[0] <= 74)


async def ask_all(stage: Stage, values: list[str]) -> tuple[list[float], dict[str, int]]:
    """Each token once, 64 at a time: seconds of each, and the answers."""
    left, took, answers = list(values), [], {}

    async def one() -> None:
        wire = Wire(stage.port)
        while left:
            began = time.monotonic()
            try:
                answer = await wire.ask("GET", f"/v1/data/{BATCHES}/none", token=left.pop())
                said = f"{answer.status} {answer.code}".strip()
            except LOST as error:
                said = type(error).__name__
            took.append(time.monotonic() - began)
            answers[said] = answers.get(said, 0) + 1
        wire.close()

    await asyncio.gather(*(one() for _ in range(64)))
    return took, answers
