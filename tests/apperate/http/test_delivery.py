"""How answers travel: their ETag, 304, compression, HEAD."""

import gzip

import pytest
import zstandard

from apperate.accounts.models import Workspace
from apperate.http import delivery
from datasets.models import Dataset
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.models import Token
from tokens.rules.token_format import TokenKind

RECORDS = [
    {"ticker": "AAPL", "date": f"20{year}-0{month}-01", "close": 1.5}
    for year in range(10, 40)
    for month in range(1, 6)
]


@pytest.mark.parametrize(
    ("header", "holds"),
    [
        ("", False),
        ('W/"a"', True),
        ('"a"', True),
        ('"b", W/"a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
    ],
)
def test_if_none_match(header: str, holds: bool) -> None:
    assert delivery.is_unchanged(header, 'W/"a"') is holds


def test_an_etag_is_of_the_content_and_what_goes_with_it() -> None:
    assert delivery.etag_of(b"a", "x") == delivery.etag_of(b"a", "x")
    assert len({delivery.etag_of(*parts) for parts in [(b"a", "x"), (b"a", "y"), (b"ax",), (b"b", "x")]}) == 4


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("", ""),
        ("identity", ""),
        ("br", ""),
        ("gzip", "gzip"),
        ("GZIP, deflate, br", "gzip"),
        ("gzip, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0", ""),
        ("gzip;q=x", ""),
    ],
)
def test_accept_encoding(header: str, encoding: str) -> None:
    assert delivery.encoding_for(header) == encoding


@pytest.fixture
def secret(workspace: Workspace) -> Token:
    return TokenFactory(workspace=workspace, kind=TokenKind.SECRET)


def filled(api: DataPlaneClient, workspace: Workspace, secret: Token) -> str:
    DatasetFactory(workspace=workspace, name="PRICES")
    written = api.post(f"/v1/record/{workspace.name}/PRICES?token={secret.test_value}", RECORDS)
    assert written.status == 200, written.body
    return f"/v1/data/{workspace.name}/PRICES?token={secret.test_value}"


@pytest.mark.django_db(transaction=True)
def test_an_unchanged_answer_is_304_until_a_record_changes(
    api: DataPlaneClient, workspace: Workspace, secret: Token
) -> None:
    url = filled(api, workspace, secret)
    first = api.get(f"{url}&last=2")

    again = api.get(f"{url}&last=2", headers={"If-None-Match": first.headers["etag"]})
    other = api.get(f"{url}&last=2&format=csv", headers={"If-None-Match": first.headers["etag"]})
    api.post(url.replace("data", "record"), [{"ticker": "AAPL", "date": "2050-01-01"}])
    changed = api.get(f"{url}&last=2", headers={"If-None-Match": first.headers["etag"]})

    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-control"] == "private, no-cache"
    assert other.status == changed.status == 200
    assert changed.headers["etag"] != first.headers["etag"]


@pytest.mark.django_db(transaction=True)
def test_304_is_free_and_head_costs_what_get_costs(api: DataPlaneClient) -> None:
    core = WorkspaceFactory(name="CORE")
    url = filled(api, core, TokenFactory(workspace=core, kind=TokenKind.SECRET))
    dataset = Dataset.objects.get()
    dataset.credits_per_record, dataset.version = 1, 2
    dataset.save()
    app = TokenFactory(settings={"core_credit_limit": 5})
    url = f"{url.split('?')[0]}?token={app.test_value}&last=2"

    paid = api.get(url)
    free = api.get(url, headers={"If-None-Match": paid.headers["etag"]})
    head = api.request("HEAD", url)
    refused = api.get(url)

    assert (paid.headers["iexcloud-credits-used"], paid.headers["apperate-credits-remaining"]) == ("2", "3")
    assert (free.status, free.headers["iexcloud-credits-used"]) == (304, "0")
    assert (head.status, head.body, head.headers["iexcloud-credits-used"]) == (200, b"", "2")
    assert head.headers["etag"] == paid.headers["etag"]
    assert refused.code == "credits-exhausted"
    etag = {"If-None-Match": paid.headers["etag"]}
    assert api.get(url.replace("pk_", "pk_0")[:-1], headers=etag).status == 403


@pytest.mark.django_db(transaction=True)
def test_long_answers_are_compressed_as_asked(
    api: DataPlaneClient, workspace: Workspace, secret: Token
) -> None:
    url = f"{filled(api, workspace, secret)}&limit=1000"
    plain = api.get(url)

    zipped = api.get(url, headers={"Accept-Encoding": "gzip, deflate, br"})
    packed = api.get(url, headers={"Accept-Encoding": "gzip, zstd"})
    short = api.get(url.replace("limit=1000", "last=1"), headers={"Accept-Encoding": "gzip"})

    assert "content-encoding" not in plain.headers | short.headers
    assert zipped.headers["content-encoding"] == "gzip" and gzip.decompress(zipped.body) == plain.body
    assert packed.headers["content-encoding"] == "zstd"
    assert zstandard.ZstdDecompressor().decompress(packed.body) == plain.body
    assert len(zipped.body) * 5 < len(plain.body)
    assert zipped.headers["etag"] == plain.headers["etag"]
    assert "Accept-Encoding" in zipped.headers["vary"]
