""" "Test this token" and the API agree: the same code from the same check, and 200 where it passes."""

import pytest

from apperate.accounts.models import Workspace
from apperate.clock import database_now
from tests.data_plane_client import DataPlaneClient
from tests.factories import DatasetFactory
from tests.refused_requests import TOKEN_SITUATIONS, Sent, Situation, reader, signed_by_a_slow_clock
from tokens.permissions import Action
from tokens.trial_runs import Report, try_out
from tokens.trials import Trial

pytestmark = pytest.mark.django_db(transaction=True)

ACTIONS = {"GET": Action.READ, "POST": Action.WRITE, "DELETE": Action.DELETE}
# A trial carries the token's own value, and is signed by a clock that is right.
ASKED = [
    one for one in TOKEN_SITUATIONS if one.check != "value" and one.prepare is not signed_by_a_slow_clock
]


def tried(sent: Sent) -> Report:
    assert sent.token
    trial = Trial(
        method=sent.method,
        path=sent.url,
        action=ACTIONS[sent.method],
        datasets=((sent.dataset.workspace.name, sent.dataset.name),),
        origin=sent.origin,
    )
    return try_out(sent.token, trial, now=database_now())


@pytest.mark.parametrize("situation", ASKED, ids=lambda one: f"{one.code} {one.prepare.__name__}")
def test_a_refusal_is_told_as_the_api_gives_it(
    api: DataPlaneClient, workspace: Workspace, situation: Situation
) -> None:
    sent = situation.prepare(workspace, DatasetFactory(workspace=workspace, name="PRICES"))

    result = tried(sent).now
    problem = sent.to(api).json()

    assert result.refusal
    assert (result.refusal.code, result.check) == (situation.code, situation.check)
    assert (problem["code"], problem["check"]) == (result.refusal.code, result.check)


def test_what_is_told_to_pass_passes(api: DataPlaneClient, workspace: Workspace) -> None:
    dataset = DatasetFactory(workspace=workspace, name="PRICES")
    sent = Sent(
        reader(dataset, allowed_domains=["a.example"]), dataset, headers={"Origin": "https://a.example"}
    )

    assert tried(sent).now.allowed
    assert sent.to(api).status == 200
