"""The page of the audit log and its CSV: who sees which events, and how they read."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client
from django.urls import reverse

from apperate.accounts.audit import trail
from apperate.accounts.audit.words import value_words
from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.kernel.cells import unescape_cell
from apperate.team import audit_log
from tests.apperate.accounts.test_audit import seal
from tests.apperate.team.test_people import shows
from tests.conftest import signed_in
from tests.support.factories import TokenFactory, WorkspaceFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
URL = "/team/audit-log/"
EXPORT = f"{URL}export.csv"
pytestmark = pytest.mark.django_db


def written(workspace: Workspace, action: str = "token.created", **given: Any) -> AuditEvent:
    return trail.record(action, **({"workspace": workspace, "by": None, "now": NOW} | given))


def exported(user: User, query: str = "") -> tuple[Any, list[list[str]]]:
    """The answer, which is sent in parts, and its rows without the escapes."""
    client = AsyncClient()
    client.force_login(user)

    async def get() -> tuple[Any, bytes]:
        answer = await client.get(EXPORT + query)
        return answer, b"".join([part async for part in answer.streaming_content])

    answer, body = async_to_sync(get)()
    rows = list(csv.reader(io.StringIO(body.decode(), newline="")))
    return answer, [[unescape_cell(cell) for cell in row] for row in rows]


def events_on(page: Any) -> list[int]:
    return [int(pk) for pk in re.findall(r'id="event-(\d+)"', page.content.decode())]


@pytest.mark.parametrize("url", [URL, EXPORT])
def test_only_those_who_manage_see_the_log(as_teammate: Client, workspace: Workspace, url: str) -> None:
    written(workspace, target="hidden-thing")

    answer = as_teammate.get(url)

    assert answer.status_code == 403
    assert shows(answer, "Only admins can do this")
    assert not shows(answer, "hidden-thing")
    assert not AuditEvent.objects.filter(action="audit_log.exported").exists()


@pytest.mark.check("S13")
def test_the_log_of_another_workspace_is_not_shown(owner: User, outsider: User, workspace: Workspace) -> None:
    """S13: neither the page, nor the filters, nor the CSV know of it."""
    written(workspace, target="hidden-thing")

    page = signed_in(outsider).get(URL, {"thing": "hidden"})

    assert shows(page, "No event matches")
    assert "hidden-thing" not in str(exported(outsider)[1])
    assert "hidden-thing" in str(exported(owner)[1])


def test_an_event_says_who_what_when_from_where_and_what_changed(
    as_admin: Client, owner: User, workspace: Workspace
) -> None:
    token = TokenFactory(workspace=workspace, nickname="Customer <XYZ>")
    written(
        workspace, "token.settings_saved", by=owner, target=token.public_id, address="192.0.2.7",
        before={"core_credit_limit": "no limit", "same": 1},
        after={"core_credit_limit": "5 credits a month", "same": 1, "allowed_domains": ["a.test", "b.test"]},
    )  # fmt: skip

    page = as_admin.get(URL)

    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page.content.decode()))
    assert "Saved settings" in text
    assert "Customer &lt;XYZ&gt;" in text
    assert "owner@example.com from 192.0.2.7" in text
    assert "Core credit limit: before no limit → after 5 credits a month" in text
    assert "Allowed domains: a.test, b.test" in text
    assert "Same" not in text
    at = 'datetime="2026-11-23T12:00:00+00:00" title="2026-11-23 12:00:00 UTC"'
    assert shows(page, f"<time {at}>23 Nov 2026, 12:00:00</time>")
    assert shows(page, f'href="{reverse("tokens:edit", args=[token.public_id])}"')


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        ([], "nothing"),
        (False, "no"),
        (0, "0"),
        (["a", "b"], "a, b"),
        ({"a": [1]}, '{"a": [1]}'),
        ("2026-11-26T09:03:04.904799+02:00", "26 Nov 2026, 07:03:04 UTC"),
        ("2026-11-26T99:03:04+00:00", "2026-11-26T99:03:04+00:00"),
        ("0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00+05:00"),
        ("x" * 301, "x" * 299 + "…"),
    ],
    ids=str,
)
def test_values_read_as_words(value: Any, words: str) -> None:
    assert value_words(value) == words


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "dcba"),
        ({"who": "OWNER@"}, "a"),
        ({"who": "token abc"}, "b"),
        ({"action": "token.disabled"}, "c"),
        ({"thing": "prices"}, "d"),
        ({"thing": "customer"}, "c"),
        ({"since": "2026-11-22"}, "dc"),
        ({"until": "2026-11-21"}, "ba"),
        ({"since": "2026-11-21", "until": "2026-11-21"}, "b"),
        ({"who": "nobody"}, ""),
        ({"since": "2026-11-25", "action": "token.created"}, ""),
    ],
    ids=str,
)
def test_filters(
    as_owner: Client, owner: User, workspace: Workspace, query: dict[str, str], expected: str
) -> None:
    token = TokenFactory(workspace=workspace, nickname="Customer XYZ")
    kept = {"action": "token.created", "target": ""}
    rows = {
        "a": {"by": owner},
        "b": {"now": NOW - timedelta(days=2)},
        "c": {"action": "token.disabled", "target": token.public_id, "now": NOW - timedelta(days=1)},
        "d": {"action": "dataset.edit", "target": "PRICES"},
    }
    rows["a"]["now"] = NOW - timedelta(days=3)
    pks = {}
    for name, row in rows.items():
        with trail.asked_by(address="192.0.2.1", actor="token abc123" if name == "b" else "system"):
            pks[written(workspace, **(kept | row)).pk] = name

    page = as_owner.get(URL, query)

    assert "".join(pks[pk] for pk in events_on(page)) == expected
    assert page.status_code == 200
    csv_rows = exported(owner, "?" + "&".join(f"{name}={value}" for name, value in query.items()))[1]
    assert len([row for row in csv_rows[1:] if row[3] != "audit_log.exported"]) == len(expected)
    if not expected:
        assert shows(page, "No event matches")


@pytest.mark.parametrize(
    "query",
    [
        {"since": "yesterday"}, {"until": "2026-02-30"}, {"action": "token.unknown"}, {"who": "a\0b"},
        {"thing": "x" * 255}, {"below": "1"}, {"below": "9" * 18 + "-1"}, {"below": "-1-1"}, {"below": "٣-1"},
    ],
    ids=str,
)  # fmt: skip
def test_a_filter_that_cannot_be_is_told_and_shows_nothing(
    as_owner: Client, workspace: Workspace, query: dict[str, str]
) -> None:
    written(workspace)

    page = as_owner.get(URL, query)

    assert page.status_code == 422
    assert events_on(page) == []
    assert as_owner.get(EXPORT, query).status_code == 302


def test_pages_hold_every_event_once_also_of_one_moment(
    as_owner: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "PAGE_EVENTS", 2)
    monkeypatch.setattr(audit_log, "PART_EVENTS", 2)
    pks = [written(workspace, target="AAPL").pk for _ in range(5)]
    seen: list[int] = []
    url: str | None = f"{URL}?thing=aapl"
    while url:
        page = as_owner.get(url)
        seen += events_on(page)
        written(workspace, target="AAPL", now=NOW + timedelta(minutes=1))
        older = re.search(r'href="([^"]*below=[^"]*)"', page.content.decode())
        url = URL + older[1].replace("&amp;", "&") if older else None
        assert url is None or "thing=aapl" in url

    assert seen == pks[::-1]


def test_an_empty_log_says_so(workspace: Workspace, as_owner: Client) -> None:
    assert shows(as_owner.get(URL), "No events yet")


def test_the_page_takes_few_queries_however_long_the_log(
    as_owner: Client, workspace: Workspace, django_assert_max_num_queries: Any
) -> None:
    for number in range(60):
        with trail.asked_by(address="192.0.2.1", actor=f"token t{number}"):
            written(workspace, target=f"t{number}", after={"kind": "publishable"})

    with django_assert_max_num_queries(10):
        page = as_owner.get(URL)

    assert len(events_on(page)) == 50


def test_the_csv_holds_every_event_safely_and_is_an_event_itself(
    owner: User, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "PART_EVENTS", 2)
    for number in range(5):
        written(workspace, target=f'=HYPERLINK("{number}")', address="192.0.2.7", after={"name": "é"})
    seal()

    answer, rows = exported(owner, "?thing=hyper")

    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="audit-log-ACME-\d{4}-\d\d-\d\d\.csv"', answer.headers["Content-Disposition"]
    )
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert rows[0] == list(audit_log.COLUMNS)
    assert [row[4] for row in rows[1:]] == [f'=HYPERLINK("{number}")' for number in (4, 3, 2, 1, 0)]
    assert rows[1] == [
        "2026-11-23T12:00:00.000000+00:00", "system", "192.0.2.7", "token.created", '=HYPERLINK("4")', "",
        '{"name": "é"}', "5", bytes(AuditEvent.objects.get(position=5).digest).hex(),
    ]  # fmt: skip
    event = AuditEvent.objects.get(action="audit_log.exported")
    assert (event.user, event.workspace, event.after) == (owner, workspace, {"thing": "hyper"})


def test_the_page_tells_the_seal_of_the_last_event_of_the_workspace(
    as_owner: Client, workspace: Workspace
) -> None:
    assert not shows(as_owner.get(URL), "seal of the last")
    for _ in range(3):
        written(workspace)
    written(WorkspaceFactory())
    seal()

    page = as_owner.get(URL)

    last = AuditEvent.objects.get(workspace=workspace, position=3)
    assert shows(page, f"number 3: <code>{bytes(last.digest).hex()}</code>")


@pytest.mark.check("S40")
def test_no_cell_of_the_csv_starts_a_formula(owner: User, workspace: Workspace) -> None:
    client = AsyncClient()
    client.force_login(owner)
    for sign in "=+-@":
        written(workspace, target=f"{sign}1+1")

    async def body() -> bytes:
        return b"".join([part async for part in (await client.get(EXPORT)).streaming_content])

    cells = [cell for row in csv.reader(io.StringIO(async_to_sync(body)().decode())) for cell in row]

    assert not [cell for cell in cells if cell[:1] in set("=+-@")]
    assert "'=1+1" in cells


def test_requests_of_the_dashboard_tell_their_address(as_owner: Client, workspace: Workspace) -> None:
    as_owner.post(
        reverse("team:invite"), {"email": "new@example.com", "role": "user"}, REMOTE_ADDR="192.0.2.9"
    )

    assert AuditEvent.objects.get(action="member.invited").address == "192.0.2.9"
    assert written(WorkspaceFactory()).address == ""
