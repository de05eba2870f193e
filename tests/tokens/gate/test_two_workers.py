"""S07, S19 on two real worker processes: random edits of one token, and what both let pass meanwhile."""

import http.client
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.apperate.running.test_server import Callers
from tests.support.installation import ROOT, Demo
from tests.tokens.gate.test_activation_properties import SITES, Known, Versions, any_settings, parts
from tokens.gate.access import Facts
from tokens.rules import domains
from tokens.rules.permissions import Action, Settings, Target

pytestmark = [pytest.mark.server, pytest.mark.database]

SEED = 20_261_126
OPEN = Settings(core_data_access=False, all_datasets=frozenset({Action.READ}))
NARROW = replace(OPEN, allowed_domains=domains.load(["a.example"]))
DELAY_SECONDS = "2"
PATIENCE = timedelta(seconds=5)  # A worker that has heard nothing for so long refuses everything.


class Editor:
    """A process that edits the token beside the server, and asks the database for the time."""

    def __init__(self, demo: Demo) -> None:
        command = [
            sys.executable,
            "manage.py",
            "shell",
            "-c",
            "from tests.support.editor import main; main()",
        ]
        environment = demo.environment(APPERATE_ACTIVATION_SECONDS=DELAY_SECONDS)
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.facts: dict[str, Any] = {}
        self.facts = self.ask("create", workspace="DEMO", dataset="STOCKS")

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        print(
            json.dumps({"do": do, "token": self.facts.get("token"), **more}),
            file=self.process.stdin,
            flush=True,
        )
        while not (line := self.process.stdout.readline()).startswith("{"):
            assert line, "the editor has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer | {"now": datetime.fromisoformat(answer["now"])}

    def close(self) -> None:
        self.process.communicate(timeout=10)


class Watched:
    """The token, what the rule says of it, and what the workers say."""

    def __init__(self, editor: Editor, callers: Callers) -> None:
        self.editor, self.callers = editor, callers
        self.versions: Versions = [(OPEN, editor.facts["now"])]
        self.before = self.known = Known(self.versions)

    def edit(self, do: str, settings: Settings = OPEN) -> None:
        answer = self.editor.ask(do, **(written(settings) if do == "save" else {}))
        in_force, waiting = parts(self.versions, answer["now"])
        if do == "save" and answer["starts_at"]:
            self.versions = [*in_force, (settings, datetime.fromisoformat(answer["starts_at"]))]
        elif do == "undo" and waiting:
            self.versions = in_force
        elif do == "apply_now" and waiting:
            self.versions = [*in_force, (waiting[0][0], answer["now"])]
        self.before, self.known = self.known, Known(self.versions)

    def settle(self) -> None:
        """Ask until every connection answers by the newest state; meanwhile the one before is right too."""
        until = time.monotonic() + 3 * PATIENCE.total_seconds()
        while not all(self.agree(origin) for origin in SITES):
            assert time.monotonic() < until, "a worker still answers by what was changed"
        self.before = self.known

    def agree(self, origin: str | None) -> bool:
        """Whether all say what the newest state says. None may pass early."""
        facts = Facts(Action.READ, Target("DEMO", "STOCKS", self.editor.facts["dataset"]), origin=origin)
        earliest = self.editor.ask("clock")["now"]
        passed = set(answers(self.callers, origin))
        latest = self.editor.ask("clock")["now"]  # What passed by now must have been due by now.
        now = {self.known.lets_pass(facts, at) for at in (earliest, latest)}
        times = (earliest - PATIENCE, earliest, latest)  # A worker's clock may be behind, never ahead.
        right = {state.lets_pass(facts, at) for state in (self.before, self.known) for at in times}
        assert passed <= right, (origin, earliest, latest)
        return bool(passed) and passed <= now


def written(settings: Settings) -> dict[str, Any]:
    return {
        "grants": {str(pk): sorted(actions) for pk, actions in settings.grants.items()},
        "all_datasets": sorted(settings.all_datasets),
        "allowed_domains": [str(rule) for rule in settings.allowed_domains],
        "domains_report_only": settings.domains_report_only,
    }


def answers(callers: Callers, origin: str | None) -> Iterator[bool]:
    for wire in callers.wires:
        wire.request("GET", callers.target, headers={"Origin": origin} if origin else {})
        reply: http.client.HTTPResponse = wire.getresponse()
        reply.read()
        assert reply.status in {200, 401, 403, 503}, reply.status
        if reply.status != 503:  # A worker that hears nothing for a while says neither yes nor no.
            yield reply.status == 200


@pytest.mark.check("S07", "S19")
def test_two_workers_follow_the_one_rule_while_a_token_is_edited(demo: Demo) -> None:
    """No answer is early by the database's clock, and both processes come to the newest state."""
    with closing(Editor(demo)) as editor:
        target = f"/v1/data/DEMO/STOCKS?token={editor.facts['value']}"
        with closing(Callers(demo, target, count=16)) as callers:
            watched, chance = Watched(editor, callers), random.Random(SEED)
            callers.reach_both(demo)
            watched.settle()
            anything = [any_settings(chance, [editor.facts["dataset"]]) for _ in range(3)]
            for do, settings in [
                *(("save", settings) for settings in anything), ("undo", OPEN),
                ("save", NARROW), ("apply_now", NARROW), ("save", OPEN),
            ]:  # fmt: skip
                watched.edit(do, settings)
                watched.settle()
            while parts(watched.versions, editor.ask("clock")["now"])[1]:
                watched.settle()  # Other sites wait until OPEN starts.
            watched.settle()
