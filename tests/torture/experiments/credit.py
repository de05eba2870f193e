"""E-C1 to E-C5: credits are exact at the limit, whoever is killed, and however hot a token is."""

import asyncio
import contextlib
import json
import time
from typing import Any

from tests.support.installation import until
from tests.support.load import credit_race
from tests.torture import faults
from tests.torture.clients import Load
from tests.torture.faults import raise_descriptors
from tests.torture.stage import PRICED, WELL_SECONDS_MAX, Stage
from tests.torture.trial import Trial, experiment, p99, statuses
from tests.torture.wire import LOST, Wire

ONLY_SPENDING = Load(
    writers=0, readers=0, editors=0, trespassers=0, switchers=0, spenders=6, pause_seconds=0.01
)
HOT_BYTES_MAX = 4_000_000


@experiment("E-C1", "8 client processes spend a limit of 1,000 at 4 workers")
def exact(trial: Trial) -> None:
    with trial.stage(credit_race.Race(trial.folder / "data")) as installation:
        for _ in range(trial.times(6, 1)):
            found = credit_race.race(installation)
            raced(trial, found)
            trial.mark("served", str(credit_race.LIMIT), found.served, found.served == credit_race.LIMIT)


@experiment("E-C3", "the same, while a random worker is killed every second")
def exact_with_kills(trial: Trial) -> None:
    with trial.stage(credit_race.Race(trial.folder / "data")) as installation:
        for _ in range(trial.times(4, 1)):
            found = credit_race.race(installation, kill_every_seconds=1)
            # One lease may have been on its way back when its worker was killed.
            raced(trial, found, lost_max=found.cut_max + credit_race.LIMIT // 64)


def raced(trial: Trial, found: credit_race.Outcome, lost_max: int = 0) -> None:
    trial.outcome.served += found.served
    trial.outcome.charged += found.charged
    trial.outcome.overspent += max(found.served, found.charged) > credit_race.LIMIT
    lost = found.charged - found.served
    trial.mark("charged that was not served", f"<= {lost_max}", lost, 0 <= lost <= lost_max)
    trial.mark("charged in all", f"<= {credit_race.LIMIT}", found.charged, found.charged <= credit_race.LIMIT)
    trial.outcome.figures["kills of the last round"] = found.kills


@experiment("E-C3-database", "credits of two tokens are spent while workers and the database are killed")
def exact_while_the_database_is_killed(trial: Trial) -> None:
    leases = 0
    with trial.embedded() as stage, trial.played(stage, ONLY_SPENDING, leases_lost_max=lambda: leases):
        for number in range(trial.times(12, 2)):
            time.sleep(trial.random.uniform(0.5, 1.5))
            if number % 2:
                faults.kill_postmaster(stage)
                leases += 2 * stage.workers
                until(stage.is_well, seconds=WELL_SECONDS_MAX)
            else:
                leases += faults.kill(trial.random.choice(stage.servers()[1]))
    spends = [one for one in trial.requests if one.act == "spend"]
    trial.outcome.figures["answers"] = statuses(spends)


@experiment("E-C2", "1,000 clients and one credit")
def one_credit(trial: Trial) -> None:
    raise_descriptors()
    with trial.embedded() as stage:
        granted = []
        for number in range(trial.times(6, 1)):
            token = stage.add_limited(f"single{number}", 1)
            answers = asyncio.run(all_at_once(stage, token, trial.times(1_000, 200)))
            granted.append(answers.get("200", 0))
            trial.outcome.refused += sum(answers.values()) - granted[-1]
            trial.outcome.overspent += granted[-1] > 1
        trial.outcome.figures["answers of the last round"] = answers
    trial.mark("granted in each round", "exactly 1", granted, set(granted) == {1})


async def all_at_once(stage: Stage, token: str, count: int) -> dict[str, int]:
    """So many connections, opened first, that all ask at the same moment."""
    wires = [Wire(stage.port) for _ in range(count)]
    for wire in wires:
        with contextlib.suppress(*LOST):
            await wire.ask("GET", "/livez")

    async def one(wire: Wire) -> str:
        for _ in range(30):
            try:
                answer = await wire.ask("GET", f"/v1/data/{PRICED}?limit=1", token=token, seconds_max=60)
            except LOST as error:
                return type(error).__name__
            # As the refusal says: the server has a share of places for each token.
            if answer.status not in (429, 503):
                return f"{answer.status} {answer.code}".strip()
            await asyncio.sleep(min(1.0, float(answer.headers.get("retry-after", 1))))
        return f"{answer.status} {answer.code} for good"

    found: dict[str, int] = {}
    for answer in await asyncio.gather(*(one(wire) for wire in wires)):
        found[answer] = found.get(answer, 0) + 1
    for wire in wires:
        wire.close()
    return found


@experiment("E-C4", "limits that change under load, and requests that do not fit")
def edges(trial: Trial) -> None:
    with trial.embedded() as stage:
        with trial.played(stage, ONLY_SPENDING):
            end = time.monotonic() + trial.long(40, 8)
            low = True
            while time.monotonic() < end:
                for name in ("limited0", "limited1"):
                    limit = 100 if low else stage.limit
                    document = {"settings": {"coreCreditLimit": limit}}
                    answer = asyncio.run(
                        ask(stage, "PATCH", f"tokens/{stage.ids[name][0]}", "others", document)
                    )
                    assert answer[0] == 200, answer
                low = not low
                time.sleep(trial.random.uniform(0.5, 6))
        with stage.connect() as connection:
            row = connection.execute("SELECT sum(deadlocks) FROM pg_stat_database").fetchone()
            assert row is not None
            trial.mark("deadlocks", "0", row[0], row[0] == 0)
            stage.add_limited("tight", 5)
            for query, wanted in (("limit=20", 402), ("limit=-1", 400), ("limit=0", 400), ("last=-5", 400)):
                got = asyncio.run(ask(stage, "GET", f"data/{PRICED}?{query}", "tight"))
                time.sleep(1.5)
                charged = stage.charged(connection, "tight")
                holds = got[0] == wanted and charged == 0
                trial.mark(
                    f"{query} with 5 credits left",
                    f"{wanted}, 0 charged",
                    f"{got[0]}, {charged} charged",
                    holds,
                )


async def ask(
    stage: Stage, method: str, path: str, token: str, document: Any = None
) -> tuple[int, dict[str, Any]]:
    """The status and the document of one request; status 0 when there was no answer."""
    wire = Wire(stage.port)
    body = None if document is None else json.dumps(document).encode()
    try:
        answer = await wire.ask(method, f"/v1/{path}", token=stage.cast[token], body=body)
    except LOST:
        return 0, {}
    finally:
        wire.close()
    return answer.status, answer.document


@experiment("E-C5", "one hot token: 64 clients for 60 s, an ordinary token beside them")
def hot(trial: Trial) -> None:
    load = Load(
        writers=0,
        readers=0,
        editors=0,
        trespassers=0,
        switchers=0,
        spenders=32,
        processes=2,
        pause_seconds=0.001,
    )
    with trial.stage(HotStage(trial.folder / "data")) as stage:
        size = "SELECT pg_total_relation_size('tokens_creditwindow')"
        with stage.connect() as connection:
            before = connection.execute(size).fetchone()
            began = time.monotonic()
            with trial.played(stage, load):
                faults.wait(trial.long(60, 6))
            seconds = time.monotonic() - began
            after = connection.execute(size).fetchone()
            assert before and after
    spends = [one for one in trial.requests if one.act == "spend"]
    others = [one for one in trial.requests if one.act == "probe"]
    trial.outcome.figures["reads a second of the hot token"] = round(len(spends) / seconds)
    trial.outcome.figures["answers"] = statuses(spends)
    trial.mark("p99 of the hot token", "< 100 ms", round(1_000 * p99(spends)), p99(spends) < 0.1)
    trial.mark("p99 of an ordinary one", "< 100 ms", round(1_000 * p99(others)), p99(others) < 0.1)
    starved = [one for one in others if one.end != "ok"]
    trial.mark("ordinary reads that failed", "0", statuses(starved) or 0, not starved)
    grown = f"{before[0]:,} to {after[0]:,}"
    trial.mark("table of credits, bytes", f"<= {HOT_BYTES_MAX:,}", grown, after[0] <= HOT_BYTES_MAX)


class HotStage(Stage):
    limit = 100_000_000
    limited = 1
