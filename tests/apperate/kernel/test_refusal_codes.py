"""Every refusal code of docs/errors.md, given by the data plane over HTTP, saying what was wrong."""

from pathlib import Path
from typing import Any

import pytest

from apperate.http.problems import CHALLENGE, PROBLEM
from apperate.kernel.refusals import REFUSALS
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, WorkspaceFactory
from tests.support.refused_requests import SITUATIONS, TOKEN_SITUATIONS, Sent, Situation, reader

RETRIED = {
    "credits-exhausted", "not-active-yet", "rate-limited", "still-running", "storage-full", "unavailable",
}  # fmt: skip


def test_each_code_that_is_listed_has_its_request() -> None:
    assert {situation.code for situation in SITUATIONS} == set(REFUSALS)


@pytest.mark.django_db(transaction=True)
def test_each_code_is_answered_to_its_request(
    api: DataPlaneClient, subtests: pytest.Subtests, settings: Any, tmp_path: Path
) -> None:
    """All in one data plane; each in a workspace of its own, so that none makes another pass."""
    settings.INGEST_DIR = tmp_path
    open_to_all = DatasetFactory()
    assert Sent(reader(open_to_all), open_to_all).to(api).status == 200
    for situation in SITUATIONS:
        with subtests.test(f"{situation.code} by {situation.named}"):
            dataset = DatasetFactory(workspace=WorkspaceFactory())
            sent = situation.prepare(dataset.workspace, dataset)
            with situation.meanwhile(api, sent):
                assert_refused(api, situation, sent)


def assert_refused(api: DataPlaneClient, situation: Situation, sent: Sent) -> None:
    reply = sent.to(api)

    problem, headers = reply.json(), reply.headers
    assert (problem["code"], reply.status) == (situation.code, REFUSALS[situation.code][0]), reply.body
    assert (problem["status"], problem["title"]) == REFUSALS[situation.code]
    assert problem.get("check", "") == situation.check
    said = " ".join(problem.get(member, "") for member in ("detail", "received", "needed"))
    assert situation.named in said
    assert headers["content-type"] == PROBLEM
    assert headers["x-request-id"] == problem["request_id"]
    assert headers["access-control-allow-origin"] == "*"
    assert headers.get("www-authenticate") == (CHALLENGE if reply.status == 401 else None)
    assert int(headers.get("retry-after", 0)) >= (situation.code in RETRIED)
    if sent.token is not None:
        assert sent.token.test_value not in reply.body.decode()
        if situation in TOKEN_SITUATIONS:
            assert problem["token"] == sent.token.public_id
