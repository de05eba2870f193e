"""The docs page of a dataset: the request as code, with a token that members may see; and who may look."""

import html
import re

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import Workspace
from apperate.database.clock import database_now
from datasets.models import Dataset
from datasets.openapi.operations import READ_DATA
from datasets.pages import docs as docs_page
from datasets.query import parameters
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory
from tokens.models import Token
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db
SCHEMA = {
    "type": "object",
    "properties": {
        "Ticker": {"type": "string", "description": "The symbol"},
        "Market": {"type": "string"},
        "Day": {"type": "date"},
        "Close": {"type": ["number", "null"]},
    },
    "required": ["Ticker", "Market", "Day"],
}


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    index = {"key": "Ticker", "subkey": "Market", "date": "Day"}
    return DatasetFactory(workspace=workspace, name="PRICES", schema_json=SCHEMA, column_mapping=index)


@pytest.fixture
def site(prices: Dataset) -> Token:
    """A publishable token that reads PRICES from anywhere, now."""
    return granted(prices, "Site")


def granted(dataset: Dataset, nickname: str, **settings: object) -> Token:
    token = TokenFactory(workspace=dataset.workspace, nickname=nickname, settings=False)
    facts = {"saved_at": LONG_AGO, "effective_at": LONG_AGO, "grants": {dataset: "read"}} | settings
    RevisionFactory(token=token, number=1, **facts)
    return token


def docs(client: Client, query: str = "", **extra: object) -> HttpResponse:
    return client.get(f"{reverse('datasets:docs', args=['PRICES'])}?{query}", **extra)


def shown(client: Client, query: str = "") -> str:
    return " ".join(docs(client, query).content.decode().split())


def code(client: Client, query: str) -> str:
    found = re.search(r'<code id="request-code">(.*?)</code>', docs(client, query).content.decode(), re.S)
    assert found
    return html.unescape(re.sub(r"<[^>]+>", "", found[1]))


def test_the_page_lists_attributes_parameters_and_refusals(as_owner: Client, prices: Dataset) -> None:
    page = shown(as_owner)

    for name, role in (("Ticker", "key"), ("Market", "subkey"), ("Day", "date")):
        assert f'<span class="mono">{name}</span> <span class="badge badge-blue">{role}</span>' in page
    assert '<span class="mono">Close</span> </th>' in page
    assert "The symbol" in page
    for name in parameters.of("read"):
        assert f'<tr id="parameter-{name}">' in page
    for refused in READ_DATA.codes:
        assert f"#{refused}" in page


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("curl", 'curl "{host}/v1/data/ACME/PRICES/A%2FB/X?last=2&filter=Close&token={value}"'),
        ("python", '"last": 2,\n        "filter": "Close",\n        "token": "{value}",'),
        ("javascript", 'fetch(\n  "{host}/v1/data/ACME/PRICES/A%2FB/X?last=2&filter=Close&token={value}");'),
    ],
)
def test_the_request_is_code_with_the_chosen_token(
    as_owner: Client, site: Token, settings: object, language: str, expected: str
) -> None:
    query = f"lang={language}&token={site.public_id}&key=A/B&subkey=X&last=2&filter=Close"

    host = settings.PUBLIC_URL  # type: ignore[attr-defined]
    assert expected.replace("{host}", host).replace("{value}", site.value) in code(as_owner, query)


def test_the_first_request_asks_for_the_latest_record(as_owner: Client, site: Token) -> None:
    assert '<code id="request-path" class="breaks">/v1/data/ACME/PRICES?last=1</code>' in shown(as_owner)


def test_a_token_that_reads_the_dataset_comes_first(as_owner: Client, prices: Dataset) -> None:
    granted(prices, "Elsewhere", grants={})
    reader = granted(prices, "Reader")

    choices = docs_page.token_choices(prices, "", now=database_now())

    assert [(choice.token.nickname, choice.reads) for choice in choices] == [
        ("Reader", True),
        ("Elsewhere", False),
    ]
    assert choices[0].is_chosen
    assert reader.value in shown(as_owner)


def test_another_token_can_be_chosen_and_is_said_to_be_doubtful(as_owner: Client, site: Token) -> None:
    bound = granted(Dataset.objects.get(), "Bound", allowed_domains=["example.com"])

    page = shown(as_owner, f"token={bound.public_id}")

    assert bound.value in page and site.value not in page
    assert "(may be refused) </option>" in page


def test_a_secret_token_is_never_on_the_page(as_owner: Client, prices: Dataset) -> None:
    secret = TokenFactory(workspace=prices.workspace, kind=TokenKind.SECRET)

    page = shown(as_owner, f"token={secret.public_id}")

    assert "sk_" not in page and f'value="{secret.public_id}"' not in page
    assert "YOUR_TOKEN" in page
    assert "There is no publishable token to try it with yet" in page


def test_a_token_of_another_workspace_is_never_on_the_page(as_owner: Client, site: Token) -> None:
    foreign = granted(DatasetFactory(name="OTHER"), "Foreign")

    page = shown(as_owner, f"token={foreign.public_id}")

    assert foreign.value not in page and f'value="{foreign.public_id}"' not in page
    assert site.value in page


def test_a_deleted_token_is_not_offered(as_owner: Client, site: Token) -> None:
    site.deleted_at = database_now()
    site.save(update_fields=["deleted_at"])

    assert site.value not in shown(as_owner)


@pytest.mark.parametrize(
    "query",
    [
        "last=%3Cscript%3E",
        "key=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&lang=python",
        "last=-1&sort=sideways",
        "lang=fortran&token=%00",
        "key=%00%F0%9F%98%80&last=" + "9" * 900,
    ],
)
def test_nothing_that_is_typed_breaks_the_page(as_owner: Client, site: Token, query: str) -> None:
    response = docs(as_owner, query)

    assert response.status_code == 200
    assert b"<script>" not in response.content
    assert re.search(r"<script(?! src=)", response.content.decode()) is None


def test_htmx_gets_the_request_alone_and_where_to_send_it(as_owner: Client, site: Token) -> None:
    response = docs(as_owner, "last=2", headers={"HX-Request": "true"})

    text = html.unescape(response.content.decode())
    assert text.lstrip().startswith('<section class="card" id="request"')
    assert f'data-run="/v1/data/ACME/PRICES?last=2&token={site.value}"' in text
    assert "HX-Request" in response.headers["Vary"]
    assert "data-run" not in shown(as_owner, "last=2")


def test_members_look_and_others_do_not(
    as_teammate: Client, as_outsider: Client, client: Client, site: Token
) -> None:
    assert docs(as_teammate).status_code == 200
    assert docs(as_outsider).status_code == 404
    assert docs(client).status_code == 302
    assert as_teammate.post(reverse("datasets:docs", args=["PRICES"])).status_code == 405


def test_a_year_that_is_mapped_as_the_date_is_offered_as_a_date_field(
    as_owner: Client, workspace: Workspace
) -> None:
    year, day = {"type": "integer"}, {"type": "string", "format": "date"}
    properties = {"Year": year, "Paid": day, "N": year}
    DatasetFactory(
        workspace=workspace, name="YEARS", column_mapping={"date": "Year"},
        schema_json={"type": "object", "properties": properties, "required": ["Year"]},
    )  # fmt: skip

    html = as_owner.get(reverse("datasets:docs", args=["YEARS"])).content.decode()

    select = re.search(r'<select[^>]*name="dateField".*?</select>', html, re.S)
    assert select
    assert re.findall(r'<option value="(\w+)"', select[0]) == ["Year", "Paid"]
