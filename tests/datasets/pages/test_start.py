"""The first minutes of a workspace: a dataset, a token, a call that arrives."""

from typing import Any

import pytest
from django.test import Client

from apperate.accounts.models import User, Workspace
from apperate.database.clock import database_now
from datasets.pages import start
from tests.apperate.team.test_people import shows
from tests.conftest import signed_in
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory
from tests.support.installation import until
from tests.tokens.pages.test_token_pages import HTMX
from tokens.models import Token, UsageCounter

URL = "/start/"


@pytest.mark.django_db
def test_home_leads_a_new_workspace_to_its_first_steps(as_owner: Client, workspace: Workspace) -> None:
    assert as_owner.get("/").headers["Location"] == URL

    DatasetFactory(workspace=workspace)
    assert as_owner.get("/").headers["Location"] == URL

    TokenFactory(workspace=workspace)
    assert as_owner.get("/").headers["Location"] == "/tokens/"


@pytest.mark.django_db
def test_somebody_without_a_workspace_is_not_led_there(stranger: User) -> None:
    assert signed_in(stranger).get("/").headers["Location"] == "/tokens/"


@pytest.mark.django_db(transaction=True)
def test_the_steps_from_nothing_to_a_call(
    as_owner: Client, workspace: Workspace, api: DataPlaneClient, settings: Any, tmp_path: Any
) -> None:
    settings.INGEST_DIR = tmp_path
    assert shows(as_owner.get(URL), "Use the sample")

    answer = as_owner.post("/start/sample/", follow=True)
    assert shows(answer, "Weather in Lincoln") and shows(answer, "Make a token</button>")

    settings.ACTIVATION_SECONDS = 0
    answer = as_owner.post("/start/token/", follow=True)
    token = workspace.tokens.get()
    call = f"/v1/data/ACME/WEATHER?last=1&token={token.value}"
    assert shows(answer, call.replace("&", "&amp;"))
    assert shows(answer, "Waiting for the first call") and shows(answer, 'hx-trigger="every 2s"')

    assert api.get(call).status == 200
    until(lambda: UsageCounter.objects.exists())

    part = as_owner.get(URL, headers=HTMX)
    assert shows(part, "It arrived.") and shows(part, "1 request of WEATHER answered")
    assert not shows(part, "every 2s") and not shows(part, "<html")


@pytest.mark.django_db(transaction=True)
def test_a_call_that_is_refused_is_told_too(
    as_owner: Client, workspace: Workspace, api: DataPlaneClient
) -> None:
    DatasetFactory(workspace=workspace, name="PRICES")
    as_owner.post("/start/token/")
    token = Token.objects.get()

    assert api.get(f"/v1/data/ACME/PRICES?token={token.value}").code == "not-active-yet"

    until(lambda: shows(as_owner.get(URL), "A call came and was refused"))
    assert shows(as_owner.get(URL), "/docs/errors/#not-active-yet")


@pytest.mark.django_db
def test_a_second_sample_is_refused_and_leaves_the_first(
    as_owner: Client, workspace: Workspace, settings: Any, tmp_path: Any
) -> None:
    settings.INGEST_DIR = tmp_path
    as_owner.post("/start/sample/")

    answer = as_owner.post("/start/sample/", follow=True)

    assert shows(answer, "WEATHER")
    assert workspace.datasets.count() == 1
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/start/sample/", "/start/token/"])
def test_only_admins_make_them(as_teammate: Client, workspace: Workspace, path: str) -> None:
    assert shows(as_teammate.get(URL), "Ask an admin of this workspace")

    assert as_teammate.post(path).status_code == 403
    assert not workspace.tokens.exists() and not workspace.datasets.exists()


@pytest.mark.django_db
def test_a_token_that_may_not_read_the_dataset_is_no_step(workspace: Workspace) -> None:
    dataset = DatasetFactory(workspace=workspace)
    TokenFactory(workspace=workspace)
    now = database_now()
    assert start.steps_of(workspace, now=now).number == 2

    reader = TokenFactory(workspace=workspace, settings={"all_datasets_read": True})
    steps = start.steps_of(workspace, now=now)

    assert (steps.number, steps.dataset, steps.token) == (3, dataset, reader)
