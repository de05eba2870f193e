"""The page "Usage" and its CSV: figures equal to the gate's and the API's, and a forecast."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.clock import database_now
from datasets.models import Dataset
from datasets.services.creating import system_workspace
from tests.apperate.team.test_people import shows
from tests.conftest import signed_in
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.metering.meter import meter
from tokens.models import CreditWindow, Token, UsageCounter
from tokens.rules.token_format import TokenKind
from tokens.usage import rollup
from tokens.usage.periods import PERIODS, span_of
from tokens.usage.report import report
from tokens.usage.rollup import roll_up

NOW = datetime(2026, 11, 16, 12, tzinfo=UTC)
DAY = timedelta(days=1)
URL = "/tokens/usage/"


def used(token: Token, at: datetime, *, dataset: Dataset | None = None, **counts: Any) -> UsageCounter:
    figures = {"operation": "read", "outcome": "ok", "calls": 1} | counts
    return UsageCounter.objects.create(
        token_id=token.pk, dataset_id=dataset.pk if dataset else 0, minute=at.replace(second=0), **figures
    )


def exported(user: User, query: str = "") -> list[dict[str, str]]:
    client = AsyncClient()
    client.force_login(user)

    async def get() -> bytes:
        answer = await client.get(f"{URL}export.csv{query}")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        return b"".join([part async for part in answer.streaming_content])

    return list(csv.DictReader(io.StringIO(async_to_sync(get)().decode(), newline="")))


# --- spans -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "first", "count", "end", "before"),
    [
        ("7d", (2026, 11, 10), 7, (2026, 11, 17), (2026, 11, 3)),
        ("30d", (2026, 10, 18), 30, (2026, 11, 17), (2026, 9, 18)),
        ("month", (2026, 11, 1), 30, (2026, 12, 1), (2026, 10, 1)),
        ("12m", (2025, 12, 1), 12, (2026, 12, 1), (2024, 12, 1)),
    ],
)
def test_a_span_is_of_whole_days_or_months(
    period: str, first: Any, count: int, end: Any, before: Any
) -> None:
    span = span_of(period, now=NOW)

    assert (span.start, len(span.starts), span.end) == (
        datetime(*first, tzinfo=UTC), count, datetime(*end, tzinfo=UTC),
    )  # fmt: skip
    assert span.before == datetime(*before, tzinfo=UTC)
    assert span.before_end - span.before == NOW - span.start
    assert list(span.starts) == sorted(set(span.starts))


def test_a_long_month_is_compared_with_no_more_than_the_one_before() -> None:
    span = span_of("month", now=datetime(2026, 3, 31, 23, tzinfo=UTC))

    assert (span.before, span.before_end) == (
        datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC),
    )  # fmt: skip


# --- figures ---------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_figures_are_of_the_span_and_of_the_workspace_alone(workspace: Workspace) -> None:
    prices = DatasetFactory(workspace=workspace, name="PRICES")
    premium = DatasetFactory(workspace=system_workspace("PREMIUM"))
    token, other = TokenFactory(workspace=workspace), TokenFactory()
    used(token, NOW, dataset=prices, calls=3, records=30, credits=6)
    used(token, NOW - DAY, calls=1, records=10, credits=10, core_credits=10)
    used(token, NOW - DAY, dataset=premium, calls=1, records=5, credits=5)
    used(token, NOW - DAY, outcome="rate-limited", calls=4)
    used(token, NOW - 33 * DAY, calls=2)  # of the month before
    used(token, NOW - 200 * DAY, calls=100)
    used(other, NOW, calls=50, credits=50)

    found = report(workspace, None, span_of("month", now=NOW), now=NOW)

    assert found
    total = found.total
    assert (total.calls, total.refused, total.answered, total.records) == (9, 4, 5, 45)
    assert (total.credits, total.core, total.premium, total.own) == (21, 10, 5, 6)
    assert found.calls_trend == 350
    by_day = {bar.label: bar.figures.calls for bar in found.bars if bar.figures.calls}
    assert by_day == {"15 November 2026": 6, "16 November 2026": 3}
    assert [(line.code, line.calls) for line in found.refusals] == [("rate-limited", 4)]
    assert [(line.row.token, line.figures.calls) for line in found.tokens] == [(token, 9)]
    assert [(line.own_name or line.name, line.reads) for line in found.datasets] == [
        ("PRICES", 3), (f"PREMIUM/{premium.name}", 1),
    ]  # fmt: skip
    assert [bar.figures.calls for bar in report(workspace, None, span_of("12m", now=NOW), now=NOW).bars][
        -2:
    ] == [2, 9]


@pytest.mark.django_db
def test_the_forecast_goes_on_as_the_month_went_and_says_when_the_limit_is_met(workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace, settings={"core_credit_limit": 1_000})
    used(token, NOW - DAY, records=620, credits=620, core_credits=620)
    CreditWindow.objects.create(token=token, month=NOW.replace(day=1).date(), used=620)

    found = report(workspace, token, span_of("month", now=NOW), now=NOW)

    assert found and found.forecast
    # 15.5 of 30 days have passed: 40 credits a day.
    assert found.forecast.credits == 1_200
    assert found.forecast.limit_at == NOW + 9.5 * DAY
    assert 'data-tip="Forecast 40"' in str(found.chart)
    assert report(workspace, token, span_of("7d", now=NOW), now=NOW).forecast is None
    start = NOW.replace(day=1, hour=0, minute=30)
    assert report(workspace, token, span_of("month", now=start), now=start).forecast is None


@pytest.mark.django_db(transaction=True)
def test_page_csv_api_and_gate_say_the_same(api: DataPlaneClient, workspace: Workspace, owner: User) -> None:
    core = DatasetFactory(workspace=system_workspace("CORE"), name="PRICES", credits_per_record=2)
    operator = TokenFactory(workspace=core.workspace, kind=TokenKind.SECRET)
    api.post(
        f"/v1/record/CORE/PRICES?token={operator.test_value}",
        [{"ticker": "A", "date": f"2024-01-0{day}"} for day in range(1, 6)],
    )
    secret = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)
    token = TokenFactory(workspace=workspace, settings={"core_credit_limit": 100})
    for path in ("PRICES?last=5", "PRICES?last=2", "NONE?last=1"):
        api.get(f"/v1/data/CORE/{path}&token={token.test_value}")
    api.run(meter.flush())

    page = signed_in(owner).get(URL, {"token": token.public_id})
    total = page.context["report"].total
    rows = exported(owner, f"?token={token.public_id}")
    answer = api.get(
        f"/v1/tokens/{token.public_id}/usage?range=30d", headers={"X-API-Key": secret.test_value}
    ).json()["series"]

    assert (total.calls, total.refused, total.records, total.core) == (3, 1, 7, 14)
    assert sum(int(row["calls"]) for row in rows) == sum(day["calls"] for day in answer) == 3
    assert sum(int(row["records"]) for row in rows) == sum(day["records"] for day in answer) == 7
    assert sum(int(row["coreCredits"]) for row in rows) == sum(day["coreCredits"] for day in answer) == 14
    assert api.get("/v1/token", headers={"X-API-Key": token.test_value}).json()["usage"]["creditsUsed"] >= 14
    assert {row["dataset"] for row in rows} == {"CORE/PRICES", ""}
    assert {row["outcome"] for row in rows} == {"ok", "dataset-not-granted"}


# --- the page --------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("period", PERIODS)
def test_any_member_looks_at_every_period(as_teammate: Client, workspace: Workspace, period: str) -> None:
    token = TokenFactory(workspace=workspace, nickname="Customer <XYZ>")
    used(token, database_now(), calls=1_234, credits=7)

    page = as_teammate.get(URL, {"period": period})

    assert page.status_code == 200
    assert shows(page, "Customer &lt;XYZ&gt;")
    assert shows(page, "1,234")
    assert shows(page, f'aria-current="page">{PERIODS[period]}</a>')
    assert shows(page, f"export.csv?period={period}")


@pytest.mark.django_db
@pytest.mark.parametrize("show", ["credits", "calls", "records"])
def test_the_chart_shows_what_is_chosen(as_owner: Client, workspace: Workspace, show: str) -> None:
    used(TokenFactory(workspace=workspace), database_now(), calls=3, records=4, credits=5)

    page = as_owner.get(URL, {"show": show})

    assert page.context["report"].shown == show
    assert shows(page, f"{show.capitalize()} per day")


@pytest.mark.django_db
def test_an_empty_workspace_has_a_page_too(as_owner: Client) -> None:
    page = as_owner.get(URL)

    assert shows(page, "No request in this time")
    assert shows(page, "Nothing was refused in this time.")


@pytest.mark.django_db
def test_odd_addresses_show_what_is_shown_without_them(as_owner: Client, workspace: Workspace) -> None:
    assert as_owner.get(URL, {"period": "forever", "show": "love"}).status_code == 200
    other = TokenFactory(workspace=WorkspaceFactory())
    for public_id in ("tok_nothing", "\0", "é", other.public_id, "x" * 5_000):
        assert as_owner.get(URL, {"token": public_id}).status_code == 404
        assert as_owner.get(f"{URL}export.csv", {"token": public_id}).status_code == 404


@pytest.mark.django_db
def test_a_limit_that_is_reached_is_said(as_owner: Client, workspace: Workspace) -> None:
    now = database_now()
    token = TokenFactory(workspace=workspace, settings={"core_credit_limit": 10})
    used(token, now, credits=10, core_credits=10)
    CreditWindow.objects.create(token=token, month=now.replace(day=1).date(), used=10)

    page = as_owner.get(URL, {"token": token.public_id})

    assert shows(page, "10 of 10 Core credits this month")
    assert shows(page, "reads of CORE are refused")


@pytest.mark.django_db
def test_the_page_asks_no_more_for_many_tokens(as_owner: Client, workspace: Workspace) -> None:
    datasets = DatasetFactory.create_batch(3, workspace=workspace)
    tokens = TokenFactory.create_batch(30, workspace=workspace)
    now = database_now()
    for token in tokens:
        for dataset in datasets:
            used(token, now, dataset=dataset)

    with CaptureQueriesContext(
        connection,
    ) as queries:
        page = as_owner.get(URL)

    assert len(page.context["report"].tokens) == 10
    assert shows(page, "The 10 busiest of 30 tokens")
    counting = [query for query in queries if "tokens_usagecounter" in query["sql"]]
    assert len(counting) <= 3
    assert len(queries) <= 16, [query["sql"][:120] for query in queries]


@pytest.mark.django_db
def test_a_count_that_takes_too_long_is_a_page(
    as_owner: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokens.usage.report.MILLISECONDS_MAX", 1)
    monkeypatch.setattr("tokens.usage.report._refusals", lambda _: slow())

    page = as_owner.get(URL)

    assert page.status_code == 503
    assert shows(page, "could not be counted in time")


def slow() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(1)")


@pytest.mark.django_db
def test_an_export_is_audited_and_starts_no_formula(owner: User, workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace, nickname="=1+1")
    used(token, database_now(), calls=2)
    used(TokenFactory(), database_now())

    (row,) = exported(owner, "?period=7d")

    assert (row["nickname"], row["calls"], row["tokenId"]) == ("'=1+1", "2", token.public_id)
    event = AuditEvent.objects.get(action="usage.exported")
    assert (event.workspace, event.actor, event.after) == (workspace, owner.email, {"period": "7 days"})


@pytest.mark.django_db
def test_the_sidebar_leads_to_the_page(as_teammate: Client) -> None:
    assert shows(as_teammate.get(reverse("tokens:list")), f'href="{URL}"')


# --- old counters become coarser -------------------------------------------------------------------


@pytest.mark.django_db
def test_old_counters_become_hours_and_days_and_no_sum_changes(workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace)
    prices = DatasetFactory(workspace=workspace)
    for age, minutes in ((0, (601, 602)), (3, (0, 1, 59, 61)), (40, (0, 1, 61, 600))):
        midnight = (NOW - age * DAY).replace(hour=0)
        for minute in minutes:
            at = midnight + timedelta(minutes=minute)
            used(token, at, dataset=prices, calls=1, records=2, credits=3, core_credits=1)
            used(token, at, outcome="rate-limited", calls=5)
    before = sums(token)

    moved = roll_up(now=NOW)

    assert moved == 3  # A day to hours, and the older one to hours and then to a day.
    assert sums(token) == before
    rows = UsageCounter.objects.filter(outcome="ok").order_by("minute").values_list("minute", "calls")
    hours = (NOW - 3 * DAY).replace(hour=0)
    today = NOW.replace(hour=0)
    assert list(rows) == [
        ((NOW - 40 * DAY).replace(hour=0), 4),
        (hours, 3),
        (hours + timedelta(hours=1), 1),
        (today + timedelta(minutes=601), 1),
        (today + timedelta(minutes=602), 1),
    ]
    assert roll_up(now=NOW + timedelta(hours=1)) == 0
    assert roll_up(now=NOW + timedelta(hours=2)) == 1
    assert (today + timedelta(hours=10), 2) in rows.all()
    assert sums(token) == before


@pytest.mark.django_db
def test_a_day_of_many_rows_is_rolled_up_in_bounded_steps(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = TokenFactory(workspace=workspace)
    midnight = (NOW - 3 * DAY).replace(hour=0)
    for minute in range(1, 24):
        used(token, midnight + timedelta(minutes=5 * minute), calls=1, credits=2)
    before = sums(token)
    monkeypatch.setattr(rollup, "ROWS_EACH_STEP", 5)
    monkeypatch.setattr(rollup, "STEPS_EACH_TIME_MAX", 3)

    assert rollup.behind(now=NOW) == midnight + timedelta(minutes=5)
    assert roll_up(now=NOW) == 3
    assert sums(token) == before
    assert rollup.behind(now=NOW) == midnight + timedelta(minutes=85)
    assert roll_up(now=NOW) == 2
    assert (sums(token), rollup.behind(now=NOW)) == (before, None)
    assert list(UsageCounter.objects.order_by("minute").values_list("minute", "calls")) == [
        (midnight, 11),
        (midnight + timedelta(hours=1), 12),
    ]


@pytest.mark.django_db
def test_what_comes_late_joins_what_was_rolled_up(workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace)
    at = (NOW - 3 * DAY).replace(minute=7)
    used(token, at, calls=2)
    roll_up(now=NOW)
    used(token, at, calls=1)

    roll_up(now=NOW)

    assert list(UsageCounter.objects.values_list("minute", "calls")) == [(at.replace(minute=0), 3)]


def sums(token: Token) -> Any:
    found = report(token.workspace, token, span_of("12m", now=NOW), now=NOW)
    assert found
    return [bar.figures for bar in found.bars], found.refusals, found.datasets
