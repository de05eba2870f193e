""" "Test this token" and the API agree: the same code from the same check, and 200 where it passes."""

from datetime import timedelta
from typing import Any

import pytest

from apperate.accounts.models import Workspace
from apperate.clock import database_now
from apperate.refusals import REFUSALS
from tests.data_plane_client import DataPlaneClient
from tests.factories import DatasetFactory
from tests.refused_requests import (
    REQUEST_SITUATIONS,
    TOKEN_SITUATIONS,
    Sent,
    Situation,
    granted_by_a_pending_change,
    reader,
    secret_of,
    signed_by_a_slow_clock,
)
from tokens.models import Token
from tokens.permissions import Action
from tokens.trial_runs import Report, try_out
from tokens.trials import Trial

pytestmark = pytest.mark.django_db(transaction=True)

ACTIONS = {"GET": Action.READ, "POST": Action.WRITE, "DELETE": Action.DELETE}
# A trial carries the token's own value, and is signed by a clock that is right.
ASKED = [
    one for one in TOKEN_SITUATIONS if one.check != "value" and one.prepare is not signed_by_a_slow_clock
]


BY_PATH = [one for one in REQUEST_SITUATIONS if one.check == "permission"]
# Codes that "Test this token" never says, because no setting or state of a token decides them.
OF_THE_VALUE = "the request that is tested carries the token's own value"
OF_THE_SIGNATURE = "what is tested as signed is signed as its holder would, by a clock that is right, once"
OF_THE_REQUEST = "it is about the path, query, headers or body of a request, whoever sends it"
OF_THE_SERVER = "it is about the server at that moment"
NEVER_TOLD = {
    "token-missing": OF_THE_VALUE,
    "https-required": "a test does not say by which protocol the request is sent",
    "signature-invalid": OF_THE_SIGNATURE,
    "signature-reused": OF_THE_SIGNATURE,
    **dict.fromkeys(
        ("invalid-values", "method-not-allowed", "length-required", "body-too-large", "url-too-long",
         "unsupported-encoding", "headers-too-large", "still-running", "already-done", "other-body"),
        OF_THE_REQUEST,
    ),
    "plan-required": "it is about what the workspace has room for, once the token may",
    **dict.fromkeys(("query-too-slow", "unavailable", "storage-full", "internal-error"), OF_THE_SERVER),
}  # fmt: skip


def test_each_code_is_told_or_can_not_be() -> None:
    told = {situation.code for situation in (*ASKED, *BY_PATH)}

    assert told | set(NEVER_TOLD) == set(REFUSALS)
    assert told & set(NEVER_TOLD) == set()


@pytest.mark.parametrize("situation", BY_PATH, ids=lambda one: f"{one.code} {one.named}")
def test_what_a_path_needs_is_told_as_the_api_gives_it(
    api: DataPlaneClient, workspace: Workspace, situation: Situation
) -> None:
    sent = situation.prepare(workspace, DatasetFactory(workspace=workspace, name="PRICES"))
    assert sent.token

    document = told(api, sent.token, method=sent.method, path=sent.url)
    problem = sent.to(api).json()

    assert (document["refusal"]["code"], document["check"]) == (situation.code, situation.check)
    assert no_times(document["refusal"]) == no_times(problem)


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


def told(api: DataPlaneClient, token: Token, **request: Any) -> Any:
    """What POST /v1/tokens/ID/test says to the workspace's secret token."""
    secret = token if token.is_secret else secret_of(token.workspace)
    headers = {"X-API-Key": secret.test_value}
    reply = api.post(f"/v1/tokens/{token.public_id}/test", request, headers=headers)
    return reply.json()


@pytest.mark.parametrize("situation", ASKED, ids=lambda one: f"{one.code} {one.prepare.__name__}")
def test_a_refusal_is_told_as_the_api_gives_it(
    api: DataPlaneClient, workspace: Workspace, situation: Situation
) -> None:
    sent = situation.prepare(workspace, DatasetFactory(workspace=workspace, name="PRICES"))

    result = tried(sent).now
    document = told(api, sent.token, method=sent.method, path=sent.url, origin=sent.origin)
    problem = sent.to(api).json()

    assert result.refusal
    assert (result.refusal.code, result.check) == (situation.code, situation.check)
    assert (problem["code"], problem["check"]) == (result.refusal.code, result.check)
    assert (document["allowed"], document["check"]) == (False, situation.check)
    # But for the sentence that says a moment or what is left, and the id of the request.
    assert no_times(document["refusal"]) == no_times(problem)


def no_times(problem: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in problem.items() if name not in {"detail", "received", "request_id"}
    }


def test_what_is_told_to_pass_passes(api: DataPlaneClient, workspace: Workspace) -> None:
    dataset = DatasetFactory(workspace=workspace, name="PRICES")
    sent = Sent(
        reader(dataset, allowed_domains=["a.example"]), dataset, headers={"Origin": "https://a.example"}
    )

    assert tried(sent).now.allowed
    document = told(api, sent.token, method="GET", path=sent.url, origin="https://a.example")
    assert document["allowed"] and document["check"] is None and document["refusal"] is None
    assert {one["passed"] for one in document["checks"]} == {True}
    assert sent.to(api).status == 200


def test_what_waits_is_told_for_after_the_activation(api: DataPlaneClient, workspace: Workspace) -> None:
    dataset = DatasetFactory(workspace=workspace, name="PRICES")
    sent = granted_by_a_pending_change(workspace, dataset)

    document = told(api, sent.token, method="GET", path=f"{sent.url}?last=3&token={sent.token.value}")

    assert (document["now"]["allowed"], document["now"]["check"]) == (False, "active")
    assert document["afterActivation"]["allowed"]
    assert document["afterActivation"]["at"] > document["now"]["at"]
    # The value stands in the header of the command, not in its address.
    assert "?last=3" in document["curl"] and "?last=3&" not in document["curl"]


@pytest.mark.parametrize(
    ("method", "path", "check"),
    [
        ("GET", "/v1/data/ACME/PRICES,OTHERS/AAPL", "permission"),
        ("GET", "/v1/query/ACME/PRICES/AAPL?token=pk_1", None),
        ("HEAD", "/stable/data/acme/prices/", None),
        ("POST", "/v1/record/ACME/PRICES", "permission"),
        ("PUT", "/v1/datasets/ACME/PRICES", "permission"),
        ("PUT", "/v1/datasets/ACME/PRICES/OTHERS", "permission"),
        ("DELETE", "/v1/data/ACME/PRICES/A%2FB/2024", "permission"),
        ("GET", "/v1/account/metadata", "permission"),
        ("GET", "/v1/token", None),
    ],
)
def test_a_path_says_what_is_done_with_which_datasets(
    api: DataPlaneClient, workspace: Workspace, method: str, path: str, check: str | None
) -> None:
    token = reader(DatasetFactory(workspace=workspace, name="PRICES"))

    assert told(api, token, method=method, path=path)["check"] == check


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "BREW"}, "method"),
        ({"method": 1}, "method"),
        ({"path": "data/ACME/PRICES"}, "path"),
        ({"path": "/v1/nothing/here"}, "path"),
        ({"path": "/v1/status"}, "path"),
        ({"path": "/v1/data/ACME/" + "K" * 4_000}, "path"),
        ({"path": "/v1/data/ACME/PRICES/é"}, "path"),
        ({"path": None}, "path"),
        ({"origin": 5}, "origin"),
        ({"referer": "https://a.example/" + "p" * 5_000}, "referer"),
        ({"signed": "yes"}, "signed"),
        ({"at": "2020-01-01T00:00:00Z"}, "at"),
        ({"at": "2999-01-01T00:00:00Z"}, "at"),
        ({"at": "soon"}, "at"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_bad_description_of_a_request_is_named(
    api: DataPlaneClient, workspace: Workspace, changes: dict[str, Any], field: str
) -> None:
    token = reader(DatasetFactory(workspace=workspace, name="PRICES"))

    problem = told(api, token, **({"method": "GET", "path": "/v1/data/ACME/PRICES"} | changes))

    assert problem["code"] == "invalid-values"
    assert [one["field"] for one in problem["errors"]] == [field]


def test_another_moment_is_asked_about(api: DataPlaneClient, workspace: Workspace) -> None:
    token = reader(DatasetFactory(workspace=workspace, name="PRICES"))
    expires_at = database_now() + timedelta(days=2)
    Token.objects.filter(pk=token.pk).update(expires_at=expires_at)
    at = expires_at + timedelta(seconds=1)

    document = told(api, token, method="GET", path="/v1/data/ACME/PRICES", at=at.isoformat())

    assert (document["check"], document["refusal"]["code"]) == ("active", "token-expired")
    assert document["now"]["allowed"]


def test_only_the_workspaces_own_tokens_are_tested(api: DataPlaneClient, workspace: Workspace) -> None:
    other, secret = reader(DatasetFactory()), secret_of(workspace)
    body = {"method": "GET", "path": "/v1/token"}

    by_another = api.post(
        f"/v1/tokens/{other.public_id}/test", body, headers={"X-API-Key": secret.test_value}
    )
    by_itself = api.post(f"/v1/tokens/{other.public_id}/test", body, headers={"X-API-Key": other.test_value})

    assert (by_another.code, by_itself.code) == ("not-found", "secret-required")
