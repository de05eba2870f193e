"""The pages that change a dataset's texts and its id: what they save and refuse, and who may."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import AuditEvent, Workspace
from datasets.models import Dataset
from tests.support.factories import DatasetFactory, WorkspaceFactory

pytestmark = pytest.mark.django_db
TEXTS = {
    "title": "Daily prices",
    "description": "One a day.",
    "source": "An exchange",
    "email": "a@b.example",
}


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES", title="Prices")


def send(client: Client, page: str, **given: str) -> Any:
    return client.post(reverse(f"datasets:{page}", args=["PRICES"]), given)


def shown(response: Any) -> str:
    return " ".join(response.content.decode().split())


def test_texts_are_saved_and_logged(as_admin: Client, prices: Dataset) -> None:
    assert 'value="Prices"' in shown(as_admin.get(reverse("datasets:details", args=["PRICES"])))
    response = send(as_admin, "details", **TEXTS)

    assert response.headers["Location"] == reverse("datasets:detail", args=["PRICES"])
    saved = Dataset.objects.get(pk=prices.pk)
    assert {name: getattr(saved, name) for name in TEXTS} == TEXTS
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.before["title"], event.after["title"]) == (
        "dataset.edit",
        "Prices",
        "Daily prices",
    )
    assert "Daily prices. One a day." in shown(as_admin.get(response.headers["Location"]))


def test_what_is_the_same_changes_nothing(as_admin: Client, prices: Dataset) -> None:
    assert send(as_admin, "details", title="Prices").status_code == 302

    assert not AuditEvent.objects.filter(action="dataset.edit").exists()
    assert Dataset.objects.get(pk=prices.pk).version == prices.version


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"title": "x" * 201}, "at most 200 characters"),
        ({"email": "nobody"}, "valid email address"),
        ({"source": "a\0b"}, "Null characters"),
    ],
)
def test_texts_that_cannot_be_are_refused(
    as_admin: Client, prices: Dataset, given: dict[str, str], said: str
) -> None:
    response = send(as_admin, "details", **TEXTS | given)

    assert (response.status_code, said in shown(response)) == (422, True)
    assert Dataset.objects.get(pk=prices.pk).title == "Prices"


def test_another_id_is_given_and_the_old_one_is_gone(as_admin: Client, prices: Dataset) -> None:
    response = send(as_admin, "rename", name="quotes")

    assert response.headers["Location"] == reverse("datasets:detail", args=["QUOTES"])
    assert "PRICES is QUOTES now." in shown(as_admin.get(response.headers["Location"]))
    assert as_admin.get(reverse("datasets:detail", args=["PRICES"])).status_code == 404
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.before, event.after) == (
        "dataset.rename",
        {"name": "PRICES"},
        {"name": "QUOTES"},
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prices", "PRICES is its ID already."),
        ("taken", "TAKEN exists already"),
        ("it's mine", "Use 1 to 63 letters"),
        ("", "Write an id"),
        ("_system_x", "not beginning with _system"),
    ],
)
def test_an_id_that_cannot_be_is_refused(
    as_admin: Client, workspace: Workspace, prices: Dataset, name: str, said: str
) -> None:
    DatasetFactory(workspace=workspace, name="TAKEN")
    response = send(as_admin, "rename", name=name)

    assert (response.status_code, said in shown(response)) == (422, True)
    assert Dataset.objects.get(pk=prices.pk).name == "PRICES"


@pytest.mark.parametrize("page", ["details", "rename"])
def test_only_admins_of_the_workspace_change_it(
    as_teammate: Client, as_admin: Client, prices: Dataset, page: str
) -> None:
    assert send(as_teammate, page, name="OTHER", title="Other").status_code == 403
    prices.workspace = WorkspaceFactory()
    prices.save()
    assert send(as_admin, page, name="OTHER", title="Other").status_code == 404
    assert (prices.name, prices.title) == ("PRICES", "Prices")
    assert not AuditEvent.objects.exists()
