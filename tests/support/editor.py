"""Edits one token beside a running server: a line of JSON in, a line of JSON out. See test_two_workers.

manage.py shell -c "from tests.support.editor import main; main()"
"""

import json
import sys
from datetime import datetime
from typing import Any

from apperate.accounts.models import Workspace
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.models import Dataset
from tokens.models import Token
from tokens.rules import domains
from tokens.rules.permissions import Action, Settings
from tokens.services import lifecycle


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        now = database_now()
        answer = ACTIONS[asked["do"]](asked, now)
        print(json.dumps(answer | {"now": now.isoformat()}), flush=True)


def create(asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    dataset = Dataset.objects.get(workspace__name=asked["workspace"], name=asked["dataset"])
    token = lifecycle.create_publishable_token(
        workspace=Workspace.objects.get(name=asked["workspace"]), by=None, now=now, active_at_once=True,
        settings=Settings(core_data_access=False, all_datasets=frozenset({Action.READ})),
    )  # fmt: skip
    assert isinstance(token, Token), token
    return {"token": token.pk, "value": token.value, "dataset": dataset.pk}


def save(asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    token, _ = found(asked), now
    settings = Settings(
        core_data_access=False,
        grants={int(pk): frozenset(map(Action, actions)) for pk, actions in asked["grants"].items()},
        all_datasets=frozenset(map(Action, asked["all_datasets"])),
        allowed_domains=domains.load(asked["allowed_domains"]),
        domains_report_only=asked["domains_report_only"],
    )
    saved = lifecycle.save_settings(token=token, changes=settings, by=None, now=now, based_on=None)
    assert not isinstance(saved, Refusal), saved
    return {"starts_at": saved.revision.effective_at.isoformat() if saved.revision else None}


def undo(asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {"done": not isinstance(lifecycle.undo_pending(token=found(asked), by=None, now=now), Refusal)}


def apply_now(asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {"done": not isinstance(lifecycle.apply_now(token=found(asked), by=None, now=now), Refusal)}


def clock(asked: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {}


def found(asked: dict[str, Any]) -> Token:
    return Token.objects.get(pk=asked["token"])


ACTIONS = {"create": create, "save": save, "undo": undo, "apply_now": apply_now, "clock": clock}
