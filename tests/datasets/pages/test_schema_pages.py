"""The pages of a dataset's records and schema: what they show, change and refuse, and who may."""

import html
import re
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.models import Dataset, IngestJob
from datasets.services import editing, writing
from tests.support.factories import DatasetFactory
from tests.support.held_datasets import held

pytestmark = pytest.mark.django_db
BODY = b"""[{"ticker": "AAPL", "date": "2024-01-02", "close": 1.50, "volume": 7},
 {"ticker": "AAPL", "date": "2024-01-03", "close": 2}, {"ticker": "<b>", "date": "2024-01-04", "close": 3}]"""


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    dataset = DatasetFactory(workspace=workspace, name="PRICES")
    written = writing.write_records(dataset_id=dataset.pk, body=BODY, replaces=False, now=database_now())
    assert written == 3
    return dataset


def shown(response: HttpResponse) -> str:
    return " ".join(html.unescape(response.content.decode()).split())


def browse(client: Client, query: str = "") -> HttpResponse:
    return client.get(f"{reverse('datasets:records', args=['PRICES'])}?{query}")


def cells(response: HttpResponse) -> list[str]:
    return re.findall(r'<td class="cell(?: num)?">(.*?)</td>', response.content.decode())


# --- the data browser ---------------------------------------------------------------------------------


def test_records_are_shown_newest_first_with_the_index_before_the_rest(
    as_teammate: Client, prices: Dataset
) -> None:
    assert cells(browse(as_teammate)) == [
        "&lt;b&gt;", "2024-01-04", "3", "",
        "AAPL", "2024-01-03", "2", "",
        "AAPL", "2024-01-02", "1.50", "7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "dates"),
    [
        ("key=AAPL", ["2024-01-03", "2024-01-02"]),
        ("key=AAPL&sort=asc", ["2024-01-02", "2024-01-03"]),
        ("from=2024-01-03", ["2024-01-04", "2024-01-03"]),
        ("to=2024-01-02", ["2024-01-02"]),
        ("where=close+gt+2", ["2024-01-04"]),
        ("key=NONE", []),
    ],
)
def test_records_are_chosen_by_filters(
    as_teammate: Client, prices: Dataset, query: str, dates: list[str]
) -> None:
    assert cells(browse(as_teammate, query))[1::4] == dates


@pytest.mark.parametrize(
    "query",
    ["where=close+gt", "from=never", "cursor=x", "from=2024-02-01&to=2024-01-01", "where=%00", "key=%00"],
)
def test_a_choice_that_means_nothing_says_what_would(
    as_teammate: Client, prices: Dataset, query: str
) -> None:
    response = browse(as_teammate, query)

    assert response.status_code == 200
    assert cells(response) == []
    assert 'role="alert"' in shown(response) or "No record matches" in shown(response)


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (
            invalid_value("from", "never", "an ISO date"),
            "The value of from is not valid: needed an ISO date.",
        ),
        (Refusal("not-found", "It is gone.", needed="another one"), "It is gone. Needed: another one."),
        (Refusal("not-found", "It is gone."), "It is gone."),
    ],
)
def test_what_would_be_right_is_said_once(refusal: Refusal, said: str) -> None:
    assert refusal.in_words == said


def test_all_pages_together_are_all_records(
    as_teammate: Client, prices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.pages.records.ROWS", 2)

    first = browse(as_teammate, "sort=asc")
    link = re.search(r'href="([^"]+)">Next', first.content.decode())
    assert link
    second = as_teammate.get(html.unescape(link[1]))

    assert cells(first)[1::4] + cells(second)[1::4] == ["2024-01-02", "2024-01-03", "2024-01-04"]
    assert "First page" in shown(second) and ">Next" not in shown(second)


def test_the_records_shown_can_be_downloaded_as_csv(
    as_teammate: Client, prices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.pages.records.ROWS", 2)
    monkeypatch.setattr("datasets.pages.records.COLUMNS_MAX", 1)
    writing.write_records(
        dataset_id=prices.pk, body=b'[{"ticker": "=1+1", "date": "2024-01-05"}]', replaces=False,
        now=database_now(),
    )  # fmt: skip

    first = browse(as_teammate, "from=2024-01-03")
    (csv,) = re.findall(r'href="([^"]+)" download', shown(first))
    (following,) = re.findall(r'href="([^"]+)">Next', shown(first))
    file = as_teammate.get(csv)
    second = browse(as_teammate, following.partition("?")[2])
    (csv_of_second,) = re.findall(r'href="([^"]+)" download', shown(second))

    assert file.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert file.content.decode() == (
        "ticker,date,close,volume\r\n'=1+1,2024-01-05,,\r\n<b>,2024-01-04,3,\r\n"
    )
    assert as_teammate.get(csv_of_second).content.decode().splitlines()[1:] == ["AAPL,2024-01-03,2,"]


def test_a_choice_that_means_nothing_is_no_file(as_teammate: Client, prices: Dataset) -> None:
    response = as_teammate.get(f"{reverse('datasets:records_csv', args=['PRICES'])}?from=never")

    assert response.status_code == 302
    assert 'role="alert"' in shown(as_teammate.get(response.headers["Location"]))


# --- the schema editor --------------------------------------------------------------------------------

SAME = {
    "p2-type": "number", "p2-nullable": "on", "p3-type": "integer", "p3-nullable": "on", "new-name": "",
}  # fmt: skip


def save(client: Client, **changes: str) -> Any:
    data = {name.replace("__", "-"): value for name, value in changes.items()}
    sent = {name: value for name, value in (SAME | data).items() if value != "off"}
    return client.post(reverse("datasets:schema", args=["PRICES"]), sent)


def test_a_property_is_added(as_admin: Client, admin: User, prices: Dataset) -> None:
    response = save(
        as_admin, new__name="open", new__type="number", new__nullable="on", new__description="First price"
    )

    assert response.status_code == 302
    prices.refresh_from_db()
    assert prices.schema_json["properties"]["open"] == {"type": "number", "description": "First price"}
    assert AuditEvent.objects.get(action="dataset.edit").user == admin


def test_a_property_without_a_value_is_removed(as_admin: Client, prices: Dataset) -> None:
    save(as_admin, new__name="open", new__type="number", new__nullable="on")
    assert 'name="p4-remove"' in shown(as_admin.get(reverse("datasets:schema", args=["PRICES"])))

    assert save(as_admin, p4__type="number", p4__nullable="on", p4__remove="on").status_code == 302

    prices.refresh_from_db()
    assert "open" not in prices.schema_json["properties"]
    assert list(prices.schema_json["properties"]) == ["ticker", "date", "close", "volume"]


def test_a_wider_type_is_saved(as_admin: Client, prices: Dataset) -> None:
    assert save(as_admin, p3__type="number").status_code == 302

    prices.refresh_from_db()
    assert prices.schema_json["properties"]["volume"] == {"type": "number"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"p2__type": "integer"}, "1 of 3 stored records do not fit the new schema"),
        ({"p3__nullable": "off"}, "2 of 3 stored records do not fit the new schema"),
        ({"p2__type": "string"}, "close: 3 records, each"),
        ({"p3__remove": "on"}, "1 of 3 stored records do not fit the new schema"),
        ({"new__name": "open", "new__type": "number"}, "3 of 3 stored records"),
        ({"new__name": "close", "new__type": "number"}, "There is a property close already"),
        ({"new__name": "_system_x", "new__type": "number"}, "is not valid: needed names"),
        ({"new__name": "a\x00b", "new__type": "number"}, "is not valid: needed names"),
        ({"p2__description": "a\x00b"}, "is not valid: needed text"),
    ],
    ids=[
        "integer",
        "required",
        "string",
        "removed",
        "new and required",
        "twice",
        "reserved",
        "no text",
        "no description",
    ],
)
def test_what_stored_records_break_is_refused_with_their_number(
    as_admin: Client, prices: Dataset, changes: dict[str, str], said: str
) -> None:
    before = prices.schema_json

    response = save(as_admin, **changes)

    assert response.status_code == 422
    assert said in re.sub(r"<[^>]+>", "", shown(response))
    prices.refresh_from_db()
    assert prices.schema_json == before


def test_index_properties_stay_and_the_reason_is_said(as_admin: Client, prices: Dataset) -> None:
    page = shown(as_admin.get(reverse("datasets:schema", args=["PRICES"])))
    assert "because the unique index of the stored records is made from it" in page
    assert 'name="p0-type"' not in page and 'name="p0-description"' in page

    save(as_admin, p0__type="integer", p0__nullable="on", p0__description="The symbol")

    prices.refresh_from_db()
    assert prices.schema_json["properties"]["ticker"] == {"type": "string", "description": "The symbol"}
    assert "ticker" in prices.schema_json["required"]


def test_a_type_that_there_is_not_changes_nothing(as_admin: Client, prices: Dataset) -> None:
    before = prices.schema_json

    assert save(as_admin, p2__type="fruit").status_code == 302

    prices.refresh_from_db()
    assert prices.schema_json == before


def test_members_look_at_records_and_admins_edit_the_schema(
    as_teammate: Client, as_outsider: Client, client: Client, prices: Dataset
) -> None:
    address = reverse("datasets:schema", args=["PRICES"])

    assert browse(as_teammate).status_code == 200
    assert as_teammate.get(address).status_code == save(as_teammate).status_code == 403
    assert browse(as_outsider).status_code == as_outsider.get(address).status_code == 404
    assert browse(client).status_code == client.get(address).status_code == 302


# --- while a job writes -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_edit_while_a_job_writes_names_the_job(as_admin: Client, admin: User, prices: Dataset) -> None:
    job = IngestJob.objects.create(dataset=prices, status=IngestJob.Status.PROCESSING)
    with held(prices, "FOR UPDATE"):
        response = save(as_admin, new__name="open", new__type="number", new__nullable="on")

    assert response.status_code == 422
    assert f"The job {job.public_id} is writing to PRICES, so nothing was changed" in shown(response)
    renamed = editing.rename_dataset(dataset=prices, name="NEWER", by=admin, now=database_now())
    assert isinstance(renamed, Dataset)
