""" "Test this token", POST /v1/tokens/ID/test and the API itself agree: the same code from the same check.

Every code of apperate.kernel.refusals is either asked in all of them, or named here with the reason why
nothing can be asked about a token.
"""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from apperate.accounts.models import Workspace
from apperate.database.clock import database_now
from apperate.kernel.refusals import REFUSALS
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import LONG_AGO, DatasetFactory
from tests.support.installation import ROOT
from tests.support.refused_requests import (
    REQUEST_SITUATIONS,
    TOKEN_SITUATIONS,
    Sent,
    Situation,
    granted_by_a_pending_change,
    reader,
    signed_by_a_slow_clock,
    signed_with_a_secret_that_no_key_opens,
    signed_with_another_secret,
)
from tests.tokens.gate.test_signed_requests import value_of
from tokens.models import Token
from tokens.pages.trial_form import REQUESTS
from tokens.rules.vocabulary import Signature
from tokens.services import lifecycle
from tokens.trials.judging import Result

pytestmark = pytest.mark.django_db(transaction=True)

SIGNATURES = {
    signed_by_a_slow_clock: Signature.SLOW_CLOCK,
    signed_with_another_secret: Signature.OTHER_SECRET,
    signed_with_a_secret_that_no_key_opens: Signature.RIGHT,
}
# What a check of the token says although only the request itself can tell.
NOT_TOLD = {
    "token-missing": "nothing was sent that names a token",
    "https-required": "how the request travels decides, whichever token it carries",
    "signature-reused": "a request that is described has a signature of its own",
}
# What is decided after the token's checks, or without looking at a token at all.
NOT_OF_THE_TOKEN = {
    "of the path, before a token is looked at": {
        "method-not-allowed", "url-too-long", "headers-too-large", "length-required", "unsupported-encoding",
    },
    "of what the request says, after every check has passed": {
        "invalid-values", "body-too-large", "plan-required", "storage-limit",
        "still-running", "already-done", "other-body",
    },
    "of the database and the server": {"query-too-slow", "internal-error", "storage-full"},
}  # fmt: skip
SOURCES = (
    "tokens/gate/access", "tokens/rules/signatures", "tokens/gate/throttling", "tokens/gate/credits",
    "tokens/gate/authentication", "tokens/gate/failed_values",
)  # fmt: skip
# The value of a trial is the token's own: one that is no token's is told of a token that was deleted.
ASKED = [
    one
    for one in TOKEN_SITUATIONS + REQUEST_SITUATIONS
    if one.check in {"active", "signature", "domain", "permission", "rate", "credits"}
    and one.code not in NOT_TOLD
]


def test_each_code_is_asked_or_named_with_the_reason_why_not() -> None:
    asked = {situation.code for situation in ASKED}
    others = [code for codes in NOT_OF_THE_TOKEN.values() for code in codes]

    assert len(others) == len(set(others))
    assert not asked & set(NOT_TOLD) and not (asked | set(NOT_TOLD)) & set(others)
    assert asked | set(NOT_TOLD) | set(others) == set(REFUSALS)


def test_each_code_that_a_check_of_a_token_gives_is_asked() -> None:
    """A code that is added to a check needs its situation, whatever else gives the same code."""
    texts = [(ROOT / f"{name}.py").read_text() for name in SOURCES]
    given = {code for text in texts for code in re.findall(r"Refusal\(\s*\"([a-z-]+)\"", text)}

    of_the_request = {"invalid-values"}  # Two values in one request; a trial has one.
    assert given - of_the_request - set(NOT_TOLD) <= {situation.code for situation in ASKED}
    assert len(given) > 12


def asked_of(situation: Situation, sent: Sent) -> dict[str, Any]:
    """The body of POST /v1/tokens/ID/test that describes a request."""
    signature = SIGNATURES.get(situation.prepare, Signature.NONE)
    return {"method": sent.method, "path": sent.url, "origin": sent.origin, "signature": signature.value}


def told(api: DataPlaneClient, token: Token, **request: Any) -> Any:
    """What POST /v1/tokens/ID/test says to the workspace's secret token."""
    headers = {"X-API-Key": secret_value(token)}
    reply = api.post(f"/v1/tokens/{token.public_id}/test", request, headers=headers)
    return reply.json()


def secret_value(token: Token) -> str:
    """The value of the secret token of a token's workspace, which is made when there is none."""
    if token.is_secret:
        return str(token.test_value)
    secret = token.workspace.tokens.filter(kind="secret").first()
    return value_of(secret or lifecycle.create_secret_token(workspace=token.workspace, by=None, now=LONG_AGO))


def boxed(client: Client, situation: Situation, sent: Sent) -> Result | None:
    """What the box on the token's page says; None of a request that it does not offer."""
    assert sent.token
    _, path, _ = REQUESTS.get(sent.method, (None, "", ""))
    name = f"{sent.dataset.workspace.name}/{sent.dataset.name}"
    offered = path.format(name).split("?")[0]
    if not path or offered.count("/") != sent.url.count("/"):
        return None
    query = {
        "method": sent.method,
        "dataset": "/".join(sent.url.split("/")[3:5]),
        "page": sent.origin or "",
        "signature": SIGNATURES.get(situation.prepare, Signature.NONE).value,
        "at": "now",
    }
    result: Result = client.get(f"/tokens/{sent.token.public_id}/test/", query).context["result"]
    return result


@pytest.mark.parametrize("situation", ASKED, ids=lambda one: f"{one.code} {one.prepare.__name__}")
def test_a_refusal_is_told_as_the_api_gives_it(
    api: DataPlaneClient, as_owner: Client, workspace: Workspace, situation: Situation
) -> None:
    sent = situation.prepare(workspace, DatasetFactory(workspace=workspace, name="PRICES"))
    assert sent.token

    result = boxed(as_owner, situation, sent)
    document = told(api, sent.token, **asked_of(situation, sent))
    problem = sent.to(api).json()

    assert (problem["code"], problem["check"]) == (situation.code, situation.check)
    assert (document["allowed"], document["check"]) == (False, situation.check)
    # But for the sentence that says a moment or what is left, and the id of the request.
    assert no_times(document["refusal"]) == no_times(problem)
    if situation.code == "secret-required":  # The box offers what publishable tokens may do.
        assert result is None
        return
    assert result and result.refusal
    assert (result.refusal.code, result.check) == (situation.code, situation.check)


def no_times(problem: dict[str, Any]) -> dict[str, Any]:
    return {
        name: re.sub(r"\d{8}T\d{6}Z", "then", value) if name == "needed" else value
        for name, value in problem.items()
        if name not in {"detail", "received", "request_id"}
    }


def test_what_is_told_to_pass_passes(api: DataPlaneClient, workspace: Workspace) -> None:
    dataset = DatasetFactory(workspace=workspace, name="PRICES")
    sent = Sent(
        reader(dataset, allowed_domains=["a.example"]), dataset, headers={"Origin": "https://a.example"}
    )

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
        ({"signature": "yes"}, "signature"),
        ({"signature": True}, "signature"),
        ({"signature": ["right"]}, "signature"),
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
    other, own = reader(DatasetFactory()), reader(DatasetFactory(workspace=workspace))
    body = {"method": "GET", "path": "/v1/token"}

    by_another = api.post(
        f"/v1/tokens/{other.public_id}/test", body, headers={"X-API-Key": secret_value(own)}
    )
    by_itself = api.post(f"/v1/tokens/{other.public_id}/test", body, headers={"X-API-Key": other.test_value})

    assert (by_another.code, by_itself.code) == ("not-found", "secret-required")
