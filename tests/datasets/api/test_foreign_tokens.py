"""S13, S16: tokens of another workspace, on every route and method of the API.

What they ask about is there, or is not, or is in a workspace that is not: the answer is the same, and nothing
of the workspace changes. The routes come from the resolver, so that a new one is asked as well.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection

from apperate.accounts.models import User, Workspace
from datasets.api import urls
from datasets.models import Dataset
from tests.conftest import signed_in
from tests.support.counting_proxy import CountingProxy
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.models import Token

pytestmark = pytest.mark.django_db(transaction=True)

# What one caller cannot be told apart by: who it is and when it asked.
OF_THE_REQUEST = {"x-request-id", "ratelimit", "date"}
OBJECTS = ("workspace", "name", "token_id", "job_id")
ROW_TABLES = (
    "records", "deleted_records", "datasets_dataset", "datasets_ingestjob", "tokens_token", "tokens_revision",
    "tokens_grant", "tokens_secret", "accounts_workspace", "accounts_auditevent",
)  # fmt: skip
NOTHING = {"[]", '{"jobs":[]}'}
BODY = json.dumps([{"ticker": "AAPL", "date": "2024-01-02", "close": 1}]).encode()
Names = dict[str, dict[str, str]]


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def ours(prices: Dataset, api: DataPlaneClient) -> Names:
    """Names for the parts of routes: of what is there, of what is not, and of a workspace that is not."""
    secret = TokenFactory(workspace=prices.workspace, kind="secret")
    file = b"ticker,date,close\nAAPL,2024-01-02,1\n"
    job = api.post("/v1/data/ACME/PRICES", file, headers={"X-API-Key": secret.test_value}).json()["jobId"]
    there = {"workspace": "ACME", "name": "PRICES", "token_id": secret.public_id, "job_id": job}
    missing = {"name": "ABSENT", "token_id": "tok_00000000", "job_id": "0" * 32}
    return {"there": there, "missing": there | missing, "nowhere": there | missing | {"workspace": "NONE"}}


def token_with_all_rights(workspace: Workspace) -> Token:
    """A publishable token that may do everything that one can be granted."""
    rights = {f"all_datasets_{action}": True for action in ("read", "write", "delete")}
    rights |= {"core_data_access": True, "premium_data_access": True}
    return TokenFactory(workspace=workspace, settings=rights)


@pytest.fixture
def foreign() -> dict[str, Token]:
    """The tokens of another workspace that may do most."""
    elsewhere = WorkspaceFactory(name="ELSEWHERE")
    DatasetFactory(workspace=elsewhere, name="MINE")
    secret = TokenFactory(workspace=elsewhere, kind="secret")
    return {"secret": secret, "publishable": token_with_all_rights(elsewhere)}


def routes() -> Iterator[tuple[str, str]]:
    """Every method of every route that names something of a workspace."""
    for pattern in urls.urlpatterns:
        route = str(pattern.pattern)
        methods = pattern.callback.views if isinstance(pattern.callback, urls.ByMethod) else {"GET": None}
        if any(f"{name}>" in route for name in ("workspace", "token_id")):
            yield from ((route, method) for method in methods)


def filled(route: str, names: dict[str, str]) -> str:
    path = re.sub(r"\(\?P<log>([^)]*)\)", r"\1", route)
    part = r"<segment:(\w+)>|\(\?P<(\w+)>[^)]*\)"
    path = re.sub(part, lambda found: names.get(found[1] or found[2], "X"), path)
    return "/v1/" + path.strip("^$")


def asked(api: DataPlaneClient, method: str, path: str, headers: dict[str, str]) -> Reply:
    body = BODY if method in {"POST", "PUT", "PATCH"} else b""
    return api.request(method, path, body=body, headers=headers)


def said(reply: Reply, names: dict[str, str]) -> tuple[Any, ...]:
    """An answer with its own names taken out."""
    text = reply.body.decode().replace(reply.headers["x-request-id"], "")
    for name in OBJECTS:
        text = text.replace(names[name], name)
    headers = {name: value for name, value in reply.headers.items() if name not in OF_THE_REQUEST}
    return reply.status, text, headers | {"content-length": ""}


def rows() -> dict[str, str]:
    """A digest of all rows of each table."""
    found = {}
    with connection.cursor() as cursor:
        for table in ROW_TABLES:
            cursor.execute(f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t")  # noqa: S608
            found[table] = cursor.fetchone()[0]
    return found


@pytest.mark.check("S13", "S16")
@pytest.mark.parametrize("kind", ["secret", "publishable"])
def test_a_token_of_another_workspace_finds_nothing_on_any_route(
    api: DataPlaneClient, ours: Names, foreign: dict[str, Token], kind: str
) -> None:
    headers = {"X-API-Key": foreign[kind].test_value}
    before = rows()
    faults, tried = [], 0
    for route, method in routes():
        there, missing, nowhere = (
            said(asked(api, method, filled(route, names), headers), names) for names in ours.values()
        )
        tried += 1
        if there[0] < 400 and method != "HEAD" and there[1] not in NOTHING:
            faults.append(f"{method} {route}: {there[:2]}")
        if not there == missing == nowhere:
            faults.append(f"{method} {route}: these differ:\n{there}\n{missing}\n{nowhere}")

    assert faults == [], "\n".join(faults)
    assert tried > 60
    assert rows() == before


@pytest.mark.check("S12", "S13")
def test_nobody_and_a_session_of_the_owner_are_nobody_to_the_api(
    api: DataPlaneClient, ours: Names, owner: User
) -> None:
    name = django_settings.SESSION_COOKIE_NAME
    session = {"Cookie": f"{name}={signed_in(owner).cookies[name].value}"}
    before = rows()

    for headers in ({}, session):
        for route, method in routes():
            reply = asked(api, method, filled(route, ours["there"]), headers)
            assert reply.status == 401, (method, route)
    assert rows() == before


@pytest.mark.check("S13")
def test_a_publishable_token_with_every_grant_changes_no_token_and_no_dataset_itself(
    api: DataPlaneClient, ours: Names, workspace: Workspace
) -> None:
    """It may write and delete records; tokens, settings, texts and schemas are the secret token's."""
    headers = {"X-API-Key": token_with_all_rights(workspace).test_value}
    before = rows()
    for route, method in routes():
        if route.startswith("tokens/") or method == "PATCH":
            reply = asked(api, method, filled(route, ours["there"]), headers)
            assert reply.status in {401, 404, 405}, (method, route)

    assert rows() == before


@pytest.mark.check("S16")
@pytest.mark.parametrize("kind", ["secret", "publishable"])
def test_what_is_there_costs_a_foreign_token_as_many_round_trips_as_what_is_not(
    proxy: CountingProxy, api: DataPlaneClient, ours: Names, foreign: dict[str, Token], kind: str
) -> None:
    """So that the time of an answer says no more than the answer."""
    headers = {"X-API-Key": foreign[kind].test_value}

    def counted(route: str, method: str, names: dict[str, str]) -> int:
        counts = []
        for _ in range(3):
            before = proxy.round_trips
            asked(api, method, filled(route, names), headers)
            counts.append(proxy.round_trips - before)
        return min(counts)  # Background work may add to one of them.

    api.get("/v1/token", headers=headers)
    faults = []
    for route, method in routes():
        if "workspace>" in route:
            there, missing = (counted(route, method, ours[which]) for which in ("there", "missing"))
            if there != missing:
                faults.append(f"{method} {route}: {there}, and {missing} for what is not there")
    assert faults == [], "\n".join(faults)
