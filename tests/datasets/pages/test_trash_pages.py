"""Deleting a dataset on its page, and bringing back what was deleted in the last 24 hours."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.clock import database_now
from datasets.jobs import making
from datasets.models import Dataset, Deletion
from datasets.services import writing
from datasets.storage import writes
from tests.support.factories import DatasetFactory

pytestmark = pytest.mark.django_db
BODY = b'[{"ticker":"AAPL<b>","date":"2024-01-01"},{"ticker":"AAPL<b>","date":"2024-01-02"}]'


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES", title="Daily prices")


@pytest.fixture
def deletion(prices: Dataset) -> Deletion:
    now = database_now()
    assert writing.write_records(dataset_id=prices.pk, body=BODY, replaces=False, now=now) == 2
    taken = making.delete_records(
        dataset_id=prices.pk, selection=writes.Selection("AAPL<b>"), token_id=None, now=now
    )
    assert taken == 2
    return Deletion.objects.get()


def shown(client: Client, name: str, *args: Any) -> str:
    response = client.get(reverse(f"datasets:{name}", args=args))
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def records(dataset: Dataset) -> int:
    found = writes.sizes([dataset.pk]).get(dataset.pk)
    return found.records if found else 0


def test_deleted_records_are_listed_and_restored(
    as_admin: Client, admin: User, prices: Dataset, deletion: Deletion
) -> None:
    html = shown(as_admin, "detail", "PRICES")
    assert "Recently deleted records" in html and "AAPL&lt;b&gt;" in html

    address = reverse("datasets:restore_records", args=["PRICES", deletion.pk])
    answer = as_admin.post(address, follow=True).content.decode()

    assert "Restored 2 records" in answer and "Recently deleted records" not in answer
    assert records(prices) == 2
    assert AuditEvent.objects.get(action="records.restore").user == admin
    assert as_admin.post(address).status_code == 404


def test_every_delete_of_the_day_can_be_reached(
    as_admin: Client, deletion: Deletion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.selectors.DELETIONS_SHOWN", 2)
    older = [
        Deletion.objects.create(
            dataset=deletion.dataset, key=f"OLDER{at}", deleted_at=deletion.deleted_at - timedelta(minutes=at)
        )
        for at in range(1, 4)
    ]
    address = reverse("datasets:detail", args=["PRICES"])
    pages = [as_admin.get(address, {"page": number}).content.decode() for number in (1, 2)]

    for at, page in ((0, 0), (1, 1), (2, 1)):
        assert reverse("datasets:restore_records", args=["PRICES", older[at].pk]) in pages[page]
    assert "Page 1 of 2" in pages[0]


def test_records_are_not_restored_after_a_day(as_admin: Client, deletion: Deletion) -> None:
    Deletion.objects.update(deleted_at=database_now() - timedelta(hours=24, seconds=1))

    assert "Recently deleted records" not in shown(as_admin, "detail", "PRICES")
    assert as_admin.post(reverse("datasets:restore_records", args=["PRICES", deletion.pk])).status_code == 404


def test_a_dataset_is_deleted_by_its_id_and_restored(as_admin: Client, admin: User, prices: Dataset) -> None:
    address = reverse("datasets:delete", args=["PRICES"])
    assert address in shown(as_admin, "detail", "PRICES")
    assert "Type PRICES to delete it" in shown(as_admin, "delete", "PRICES")

    for typed in ("", "PRICE"):
        refused = as_admin.post(address, {"name": typed})
        assert refused.status_code == 422 and "Type" in refused.content.decode()
    prices.refresh_from_db()
    assert prices.deleted_at is None

    answer = as_admin.post(address, {"name": "prices"}, follow=True).content.decode()
    assert "PRICES is deleted. It can be restored for 24 hours." in answer
    assert "Recently deleted" in answer and "Restore PRICES" in answer
    assert AuditEvent.objects.get(action="dataset.delete").user == admin

    answer = as_admin.post(reverse("datasets:restore", args=["PRICES"]), follow=True).content.decode()
    assert "PRICES is restored" in answer
    prices.refresh_from_db()
    assert (prices.deleted_at, prices.version) == (None, 3)


@pytest.mark.parametrize("page", ["delete", "restore", "restore_records"])
def test_only_admins_of_the_workspace_delete_and_restore(
    as_teammate: Client, as_outsider: Client, prices: Dataset, deletion: Deletion, page: str
) -> None:
    if page == "restore":
        Dataset.objects.update(deleted_at=database_now())
    address = reverse(
        f"datasets:{page}", args=["PRICES", deletion.pk] if page == "restore_records" else ["PRICES"]
    )

    assert as_teammate.post(address, {"name": "PRICES"}).status_code == 403
    assert as_outsider.post(address, {"name": "PRICES"}).status_code == 404
    assert Deletion.objects.count() == 1


def test_a_teammate_sees_what_was_deleted_without_buttons(as_teammate: Client, deletion: Deletion) -> None:
    html = shown(as_teammate, "detail", "PRICES")

    assert "Recently deleted records" in html
    assert "Restore</button>" not in html and "Delete dataset" not in html
