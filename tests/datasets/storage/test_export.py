"""export=true, format=parquet and queryId, through the whole data plane."""

import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
import zstandard
from django.conf import settings

from apperate.accounts.models import Workspace
from apperate.database import shares
from apperate.database.pool import connection_arguments
from apperate.database.shares import Asker
from datasets.models import Dataset, IngestJob, QueryMark
from datasets.services import trash
from datasets.storage import exports
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory, WorkspaceFactory
from tokens.gate.credits import spent
from tokens.models import CreditWindow, Token
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)

SCHEMA = {
    "type": "object",
    "properties": {
        "ticker": {"type": "string"},
        "day": {"type": "string", "format": "date"},
        "close": {"type": "number"},
        "volume": {"type": "integer"},
        "open": {"type": "boolean"},
        "tags": {"type": "array"},
        "Volume": {},
    },
    "required": ["ticker", "day"],
}
RECORDS = [
    {"ticker": ticker, "day": f"2024-01-0{day}", "close": day + 0.5, "volume": day * 10**9}
    for ticker in ("AAPL", "MSFT")
    for day in range(1, 8)
]


class Exporter:
    def __init__(self, api: DataPlaneClient, workspace: Workspace) -> None:
        self.api, self.workspace = api, workspace
        self.dataset: Dataset = DatasetFactory(
            workspace=workspace, name="PRICES", schema_json=SCHEMA,
            column_mapping={"key": "ticker", "date": "day"},
        )  # fmt: skip
        self.secret: Token = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)
        self.token = self.secret.test_value
        self.write(RECORDS)

    def write(self, records: list[dict[str, Any]]) -> None:
        name = f"{self.workspace.name}/PRICES"
        reply = self.api.post(f"/v1/record/{name}?token={self.token}&overwrite=true", records)
        assert reply.status == 200, reply.body

    def get(self, path: str = "", query: str = "export=true", **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        name = f"{self.workspace.name}/PRICES{path}"
        return self.api.get(f"/v1/data/{name}?token={self.token}&{query}", headers=named)

    def shown(self, path: str = "", query: str = "export=true") -> str:
        reply = self.get(path, query)
        assert reply.status == 200, reply.body
        return " ".join(f"{r['ticker'][0]}{r['day'][-1]}" for r in reply.json())


@pytest.fixture
def data(api: DataPlaneClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Exporter:
    monkeypatch.setattr(exports, "ROWS_AT_ONCE", 3)  # Several chunks.
    return Exporter(api, workspace)


def rows_of(body: bytes, tmp_path: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    path = tmp_path / "answer.parquet"
    path.write_bytes(body)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.read_parquet(str(path)).project(columns).fetchall()


# --- export=true ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/AAPL", "", "A7 A6 A5 A4 A3 A2 A1"),
        ("/AAPL,MSFT", "&sort=asc&from=2024-01-06", "A6 A7 M6 M7"),
        ("", "&from=2024-01-07", "M7 A7"),
        ("/AAPL", "&limit=2", "A7 A6"),
        ("/AAPL", "&limit=2&offset=1", "A6 A5"),
        ("/AAPL", "&interval=3", "A7 A4 A1"),
        ("", "&where=close%20lt%202", "M1 A1"),
        ("/NONE", "", ""),
    ],
)
def test_export_has_all_matching_records_in_the_asked_order(
    data: Exporter, path: str, query: str, expected: str
) -> None:
    assert data.shown(path, f"export=true{query}") == expected


@pytest.mark.parametrize("answer_format", ["json", "csv", "psv", "ndjson"])
@pytest.mark.parametrize("more", ["", "&filter=close,ticker", "&includeSystemRecordProperties=true"])
def test_an_export_is_byte_for_byte_the_answer_of_a_read(
    data: Exporter, answer_format: str, more: str
) -> None:
    read = data.get("", f"range=2024&format={answer_format}{more}")

    exported = data.get("", f"export=true&format={answer_format}{more}")

    assert exported.body == read.body and len(read.body) > 100
    assert exported.headers["content-type"] == read.headers["content-type"]
    assert exported.headers["content-length"] == str(len(read.body))
    assert exported.headers["content-disposition"].startswith('attachment; filename="PRICES.')


def test_an_export_is_compressed_when_that_is_asked_for(data: Exporter) -> None:
    plain = data.get().body

    packed = data.get(Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip" and gzip.decompress(packed.body) == plain
    packed = data.get(Accept_Encoding="zstd")
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed.body)) as reader:
        assert reader.read() == plain
    assert packed.headers["content-length"] == str(len(packed.body))


@pytest.mark.parametrize(
    "more", ["last=1", "first=1", "next=1", "cursor=x", "callback=f", "queryId=a", "schema=true"]
)
def test_what_does_not_go_with_an_export_is_refused_by_name(data: Exporter, more: str) -> None:
    reply = data.get("", f"export=true&{more}")

    assert reply.code == "invalid-values" and reply.json()["received"].startswith(more.split("=")[0])


def test_an_export_that_does_not_fit_the_limit_sends_and_charges_nothing(
    api: DataPlaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Exporter(api, WorkspaceFactory(name="CORE"))
    Dataset.objects.update(credits_per_record=1, version=2)
    token = TokenFactory(workspace=WorkspaceFactory(name="BUYER"), settings=False)
    RevisionFactory(
        token=token, core_data_access=True, core_credit_limit=20, saved_at=LONG_AGO, effective_at=LONG_AGO
    )
    data.token = token.test_value

    assert data.get().headers["iexcloud-credits-used"] == "14"
    assert data.get().code == "credits-exhausted"
    assert data.get("/AAPL", "export=true&limit=6").status == 200
    assert CreditWindow.objects.get(token=token).used == 20
    assert data.get("/AAPL").code == "credits-exhausted"
    spent.clear()


@pytest.mark.check("S37")
def test_two_exports_at_a_time_per_token(data: Exporter, workspace: Workspace) -> None:
    other = TokenFactory(workspace=workspace, settings__grants={data.dataset: "read"})
    with (
        psycopg.connect(**connection_arguments()) as first,
        psycopg.connect(**connection_arguments()) as second,
    ):
        assert exports._lock(first, data.secret.pk) and data.get().status == 200
        assert exports._lock(second, data.secret.pk)
        refused = data.get()
        data.token = other.test_value
        of_other = data.get()

    assert (refused.status, refused.code) == (429, "rate-limited")
    assert refused.headers["retry-after"] == "10"
    assert of_other.status == 200
    data.token = data.secret.test_value
    assert data.get().status == 200


def test_exports_of_one_worker_are_bounded(data: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares.EXPORTS, "seconds_max", 0.05)
    assert {data.get().status for _ in range(shares.EXPORTS.places + 1)} == {200}  # It is given back.
    for _ in range(shares.EXPORTS.of_workspace):
        shares.EXPORTS.enter(Asker(0, data.secret.workspace_id))

    refused = data.get()

    assert refused.code == "rate-limited" and "exports at a time" in refused.json()["detail"]


def test_an_export_of_outdated_metadata_is_made_again(data: Exporter) -> None:
    data.get("/AAPL", "limit=1")  # The metadata is cached now.
    other = SCHEMA | {"properties": SCHEMA["properties"] | {"more": {"type": "string"}}}  # type: ignore[operator]
    Dataset.objects.update(schema_json=other, version=2)

    assert data.get("", "export=true&format=csv").body.split(b"\r\n")[0].endswith(b",more")


def test_a_full_disk_is_said(data: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DISK_RESERVE_MB", 10**12)
    monkeypatch.setattr(settings, "DISK_RESERVE_IS_SET", True)

    assert (data.get().status, data.get().code) == (507, "storage-full")


def test_an_export_needs_the_grant_like_any_read(data: Exporter, workspace: Workspace) -> None:
    data.token = TokenFactory(workspace=workspace).test_value

    assert data.get().code == "dataset-not-granted"


# --- format=parquet -------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["export=true", "range=2024"])
def test_parquet_has_every_record_with_its_types(data: Exporter, tmp_path: Path, query: str) -> None:
    big = 2**63 - 1
    data.write(
        [
            {
                "ticker": "AAPL", "day": "2024-01-07", "close": 1e300, "volume": big, "open": True,
                "tags": [1, {"a": None}], "Volume": "text",
            }
        ]
    )  # fmt: skip

    reply = data.get("/AAPL", f"{query}&format=parquet")

    assert reply.headers["content-type"] == "application/vnd.apache.parquet"
    # Names that differ in case alone are one to most readers of Parquet: the later one gets a number.
    rows = rows_of(reply.body, tmp_path, "ticker, epoch_ms(day), close, volume, open, tags, Volume_1")
    assert len(rows) == 7
    assert rows[0][:6] == (
        "AAPL", 1_704_585_600_000, 1e300, big, True, '[1,{"a":null}]',
    )  # fmt: skip
    assert rows[0][6] == '"text"'
    assert rows[1][3:] == (6 * 10**9, None, None, None)


def test_parquet_keeps_the_order_of_filter_and_is_asked_for_by_accept(data: Exporter, tmp_path: Path) -> None:
    reply = data.get("/AAPL", "filter=close,ticker", Accept="application/vnd.apache.parquet")

    assert rows_of(reply.body, tmp_path) == [(7.5, "AAPL")]
    assert reply.headers["etag"].startswith('W/"')


def test_a_parquet_answer_without_records_has_its_columns(data: Exporter, tmp_path: Path) -> None:
    reply = data.get("/NONE", "export=true&format=parquet&filter=ticker,close")

    assert rows_of(reply.body, tmp_path, "count(ticker), count(close)") == [(0, 0)]


@pytest.mark.parametrize("query", ["export=true", "last=1"])
def test_an_integer_beyond_64_bits_makes_its_column_text_in_parquet(
    data: Exporter, tmp_path: Path, query: str
) -> None:
    data.write([{"ticker": "AAPL", "day": "2024-01-07", "volume": 2**70, "close": 1}])

    reply = data.get("/AAPL", f"{query}&format=parquet")

    columns = "volume, typeof(volume), typeof(close)"
    assert rows_of(reply.body, tmp_path, columns)[0] == (str(2**70), "VARCHAR", "DOUBLE")


@pytest.mark.check("S39")
def test_names_of_properties_are_no_sql_in_parquet(api: DataPlaneClient, workspace: Workspace) -> None:
    odd = ['a"; DROP TABLE x; --', "a'b", "{}", "ä b", "SELECT"]
    DatasetFactory(
        workspace=workspace, name="ODD", column_mapping={},
        schema_json={"type": "object", "properties": {name: {"type": "string"} for name in odd}},
    )  # fmt: skip
    token = TokenFactory(workspace=workspace, kind=TokenKind.SECRET).test_value
    api.post(f"/v1/record/ACME/ODD?token={token}", [{name: name for name in odd}])

    reply = api.get(f"/v1/data/ACME/ODD?token={token}&format=parquet")

    assert reply.status == 200 and reply.body.startswith(b"PAR1")
    for name in odd:
        assert name.encode() in reply.body


# --- queryId --------------------------------------------------------------------------------------


def age(hours: float) -> None:
    """As if what was written and asked so far had been that long ago."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("UPDATE records SET updated = updated - make_interval(secs => %s)", [hours * 3600])
        cursor.execute(
            """UPDATE datasets_querymark SET since = since - make_interval(secs => %(s)s),
               next_since = next_since - make_interval(secs => %(s)s),
               used_at = used_at - make_interval(secs => %(s)s)""",
            {"s": hours * 3600},
        )


@pytest.fixture
def aged(data: Exporter) -> Exporter:
    """Records that were written an hour ago."""
    age(hours=1)
    return data


def test_query_id_gives_everything_at_first_and_then_only_what_is_new(aged: Exporter) -> None:
    data = aged
    assert len(data.shown("", "queryId=a1").split()) == 14
    age(hours=1)
    assert data.shown("", "queryId=a1") == ""
    data.write([{"ticker": "AAPL", "day": "2024-01-03", "close": 9}, {"ticker": "NEW", "day": "2024-01-01"}])

    assert data.shown("", "queryId=a1") == "A3 N1"
    assert len(data.shown("", "queryId=b").split()) == 15  # Another id, for itself.
    age(hours=1)
    assert data.shown("", "queryId=a1") == "A3 N1"  # They were written just before the answer: an overlap.
    age(hours=1)
    assert data.shown("", "queryId=a1") == ""


def test_query_id_overlaps_by_ten_seconds(data: Exporter) -> None:
    data.shown("", "queryId=a1")
    data.write(RECORDS)
    age(hours=8 / 3600)
    data.shown("", "queryId=a1")
    assert len(data.shown("", "queryId=a1").split()) == 14


def test_query_id_moves_on_when_the_last_page_was_read(aged: Exporter) -> None:
    data = aged
    first = data.get("", "queryId=a1&limit=10")
    age(hours=1)
    again = data.get("", "queryId=a1&limit=10")
    assert len(first.json()) == len(again.json()) == 10  # The second page was not read.

    cursor = again.headers["apperate-next-cursor"]
    rest = data.get("", f"queryId=a1&limit=10&cursor={cursor}")
    assert len(rest.json()) == 4
    age(hours=1)

    assert data.get("", "queryId=a1&limit=10").json() == []


def test_query_id_begins_before_a_job_that_is_under_way(aged: Exporter) -> None:
    data = aged
    data.shown("", "queryId=a1")
    job = IngestJob.objects.create(
        dataset=data.dataset, status="PROCESSING", started_at=datetime.now(UTC) - timedelta(minutes=30)
    )
    age(hours=1)
    assert data.shown("", "queryId=a1") == ""
    data.write([{"ticker": "LATE", "day": "2024-01-01"}])  # What the job wrote is seen only now,
    age(hours=1 / 3)  # with the time at which it was written.
    IngestJob.objects.filter(pk=job.pk).update(status="INGESTED")

    assert data.shown("", "queryId=a1") == "L1"


def test_query_id_is_forgotten_after_24_hours_and_purged(aged: Exporter) -> None:
    data = aged
    data.shown("", "queryId=a1")
    age(hours=25)

    assert len(data.shown("", "queryId=a1").split()) == 14
    trash.purge(now=datetime.now(UTC))
    assert QueryMark.objects.count() == 1
    trash.purge(now=datetime.now(UTC) + timedelta(hours=25))
    assert QueryMark.objects.count() == 0


def test_query_id_belongs_to_its_token(data: Exporter, workspace: Workspace) -> None:
    data.shown("", "queryId=a1")
    age(hours=1)
    data.token = TokenFactory(workspace=workspace, settings__grants={data.dataset: "read"}).test_value

    assert len(data.shown("", "queryId=a1").split()) == 14


def test_an_answer_that_is_not_paid_for_moves_no_query_id(api: DataPlaneClient) -> None:
    data = Exporter(api, WorkspaceFactory(name="CORE"))
    Dataset.objects.update(credits_per_record=1, version=2)
    token = TokenFactory(workspace=WorkspaceFactory(name="BUYER"), settings=False)
    RevisionFactory(
        token=token, core_data_access=True, core_credit_limit=13, saved_at=LONG_AGO, effective_at=LONG_AGO
    )
    data.token = token.test_value

    assert data.get("", "queryId=a1").code == "credits-exhausted"
    assert QueryMark.objects.count() == 0
    spent.clear()


def test_a_head_request_moves_no_query_id(data: Exporter) -> None:
    url = f"/v1/data/ACME/PRICES?token={data.token}&queryId=a1"

    assert data.api.request("HEAD", url).status == 200

    assert QueryMark.objects.count() == 0


@pytest.mark.parametrize("query_id", ["abcd", "a-1", "%C3%A4", "a%20"])
def test_a_bad_query_id_is_refused(data: Exporter, query_id: str) -> None:
    assert "queryId" in data.get("", f"queryId={query_id}").json()["received"]
