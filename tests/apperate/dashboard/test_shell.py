"""The frame of every page: navigation, headers, errors, the choice of workspace, and who declared what."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import OperationalError
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver, path, reverse
from django.utils.html import escape

from apperate.accounts.models import User, Workspace
from apperate.dashboard import charts
from apperate.dashboard.context import Shell
from apperate.dashboard.forms import Switch
from apperate.http import health
from apperate.kernel.refusals import REFUSALS
from apperate.templatetags import ui
from apperate.urls import urlpatterns as project_urlpatterns
from tests.conftest import signed_in
from tests.support.factories import DatasetFactory, MembershipFactory, TokenFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
# Libraries that guard their own views; the data plane's routes answer to a token and are tested there.
OTHERS = ("account/", "operator/", "v1/")


def broken(request: Any) -> Any:
    raise RuntimeError("sk_0123456789abcdef must not be shown")


def without_database(request: Any) -> Any:
    raise OperationalError("connection refused")


# This module serves as the URLs of the tests below that need a page with a fault.
urlpatterns = [*project_urlpatterns, path("broken/", broken), path("away/", without_database)]
handler400, handler500 = "apperate.views.bad_request", "apperate.views.server_error"
with_faults = pytest.mark.urls("tests.apperate.dashboard.test_shell")


def text_of(response: Any) -> str:
    return response.content.decode()


# --- policies -----------------------------------------------------------------------------------------


def routes(patterns: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


@pytest.mark.check("S14")
def test_every_view_declares_who_may_open_it() -> None:
    """S14: deny by default; a view without a policy fails here."""
    found = {
        route: view for route, view in routes(get_resolver().url_patterns) if not route.startswith(OTHERS)
    }

    undeclared = {route for route, view in found.items() if not getattr(view, "policy", None)}

    assert len(found) > 10
    assert not undeclared


@pytest.mark.django_db
def test_every_page_of_a_workspace_asks_signed_out_people_to_sign_in(client: Client) -> None:
    for route, view in routes(get_resolver().url_patterns):
        if getattr(view, "policy", None) in ("member", "admin") and "<" not in route:
            answer = client.get("/" + route)
            assert answer.status_code in {302, 405}, route
            if answer.status_code == 302:
                assert answer.headers["Location"].startswith(reverse("account_login")), route


# --- headers and errors -------------------------------------------------------------------------------


@pytest.mark.check("S09", "S48")
@pytest.mark.django_db
@with_faults
@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/account/login/", 200),
        ("/account/signup/", 200),
        ("/docs/", 200),
        ("/nothing/", 404),
        ("/team/", 403),
        ("/broken/", 500),
        ("/away/", 503),
    ],
)
def test_every_page_carries_the_security_headers(stranger: User, url: str, status: int) -> None:
    """S48: also on errors."""
    client = Client() if url.startswith("/account/") else signed_in(stranger)
    client.raise_request_exception = False

    answer = client.get(url)

    assert answer.status_code == status
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "no-store" in answer.headers["Cache-Control"]
    assert len(answer.headers["X-Request-Id"]) == 16
    assert "style=" not in text_of(answer)
    assert "onclick" not in text_of(answer)


@pytest.mark.check("S55")
@with_faults
def test_an_error_page_says_the_request_id_and_nothing_of_the_error() -> None:
    """S55: no stack, SQL or token."""
    client = Client(raise_request_exception=False)

    answer = client.get("/broken/")

    assert answer.headers["X-Request-Id"] in text_of(answer)
    assert "sk_" not in text_of(answer)
    assert "RuntimeError" not in text_of(answer)


@with_faults
def test_a_database_that_is_away_is_a_503_with_a_time_to_try_again() -> None:
    answer = Client(raise_request_exception=False).get("/away/")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert "The database does not answer" in text_of(answer)


@pytest.mark.check("S16")
@pytest.mark.django_db
def test_another_workspaces_page_and_no_page_get_the_same_answer(as_outsider: Client, teammate: User) -> None:
    """S16: "not yours" and "does not exist" are the same."""
    theirs = as_outsider.get(reverse("team:member_remove", args=[teammate.memberships.get().pk]))
    nobodys = as_outsider.get(reverse("team:member_remove", args=[999_999]))

    def same(answer: Any) -> str:
        return text_of(answer).split("<footer")[0]

    assert theirs.status_code == nobodys.status_code == 404
    assert same(theirs) == same(nobodys)


def test_health_pages_need_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Client().get("/livez")

    assert (answer.status_code, answer.content) == (200, b"ok\n")


@pytest.mark.django_db
def test_readiness_asks_the_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = client.get("/readyz")

    class Away:
        def cursor(self) -> None:
            raise psycopg.OperationalError("connection refused")

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr(health, "connection", Away())
    away = client.get("/readyz")
    assert (ready.status_code, away.status_code, away.headers["Retry-After"]) == (200, 503, "2")


# --- the frame ----------------------------------------------------------------------------------------


def test_the_navigation_names_pages_that_exist_and_marks_the_current_one(rf: RequestFactory) -> None:
    sections = Shell(rf.get("/team/invite/")).nav

    links = [link for section in sections for link in section.links]
    assert {"API Tokens", "Team"} <= {link.title for link in links}
    assert [link.title for link in links if link.is_current] == ["Team"]
    assert [section.title for section in sections] == sorted(
        (section.title for section in sections), key=["Access & Security", "Data", "Settings"].index
    )


@pytest.mark.django_db
def test_home_leads_to_the_tokens(as_teammate: Client, client: Client, workspace: Workspace) -> None:
    DatasetFactory(workspace=workspace)
    TokenFactory(workspace=workspace)
    assert as_teammate.get("/").headers["Location"] == reverse("tokens:list")
    assert client.get("/").headers["Location"] == "/account/login/?next=/"


def test_every_refusal_of_the_api_is_explained_where_its_document_leads(client: Client) -> None:
    page = text_of(client.get("/docs/errors/"))

    for code, (status, title) in REFUSALS.items():
        assert f'id="{code}"' in page
        assert str(status) in page
        assert escape(title) in page


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1:8000", False), ("localhost", False), ("[::1]:8000", False), ("data.example.com", True)],
)
def test_plain_http_to_another_machine_shows_a_banner(rf: RequestFactory, host: str, shown: bool) -> None:
    assert Shell(rf.get("/", headers={"host": host})).is_open_http is shown
    assert Shell(rf.get("/", headers={"host": host}, secure=True)).is_open_http is False


def test_the_theme_is_kept_in_a_cookie_and_leads_back_to_the_page() -> None:
    client = Client()

    answer = client.post("/theme/", {"theme": "dark", "next": "/docs/?a=1"})

    assert answer.headers["Location"] == "/docs/?a=1"
    assert 'data-theme="dark"' in text_of(client.get("/docs/"))


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:1"]
)
def test_the_theme_form_leads_nowhere_else(address: str) -> None:
    answer = Client().post("/theme/", {"theme": "pink", "next": address})

    assert answer.headers["Location"] == "/"
    assert "theme" not in answer.cookies


def test_the_theme_needs_a_csrf_token_and_a_post() -> None:
    assert Client(enforce_csrf_checks=True).post("/theme/", {"theme": "dark"}).status_code == 403
    assert Client().get("/theme/?theme=dark").status_code == 405


# --- workspaces ---------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_switching_the_workspace(as_teammate: Client, teammate: User, workspace: Workspace) -> None:
    other = MembershipFactory(user=teammate, workspace__title="Zenith").workspace
    before = as_teammate.get(reverse("team:members")).wsgi_request.workspace

    answer = as_teammate.post(reverse("workspace_switch", args=[other.name]))

    page = as_teammate.get(reverse("team:members"))
    assert answer.headers["Location"] == "/"
    assert (before, page.wsgi_request.workspace) == (workspace, other)
    assert page.wsgi_request.workspaces == [workspace, other]


@pytest.mark.django_db
def test_switching_to_a_foreign_workspace_is_refused(as_outsider: Client, workspace: Workspace) -> None:
    """S13: as if it did not exist."""
    foreign = as_outsider.post(reverse("workspace_switch", args=[workspace.name]))
    unknown = as_outsider.post(reverse("workspace_switch", args=["NOTHING"]))

    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert as_outsider.get(reverse("team:members")).wsgi_request.workspace != workspace


@pytest.mark.django_db
def test_a_session_that_names_a_foreign_workspace_gets_its_own(
    as_outsider: Client, workspace: Workspace
) -> None:
    session = as_outsider.session
    session["workspace"] = workspace.pk
    session.save()

    assert as_outsider.get(reverse("team:members")).wsgi_request.workspace != workspace


@pytest.mark.django_db
def test_switching_needs_a_post_with_a_csrf_token(teammate: User, workspace: Workspace) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(teammate)
    url = reverse("workspace_switch", args=[workspace.name])

    assert client.get(url).status_code == 405
    assert client.post(url).status_code == 403


# --- tags and fields ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (timedelta(seconds=-20), "just now"),
        (timedelta(minutes=-14, seconds=-50), "14 min ago"),
        (timedelta(hours=-1), "1 hour ago"),
        (timedelta(hours=-3, minutes=-59), "3 hours ago"),
        (timedelta(hours=-25), "yesterday"),
        (timedelta(days=-3), "3 days ago"),
        (timedelta(days=-8), "15 Nov 2026"),
        (timedelta(seconds=20), "in less than a minute"),
        (timedelta(minutes=2), "in 2 min"),
        (timedelta(hours=23, minutes=59, seconds=50), "tomorrow"),
        (timedelta(days=1, hours=23), "tomorrow"),
        (timedelta(days=4, hours=23), "in 5 days"),
        (timedelta(days=6, hours=11), "in 6 days"),
        (timedelta(days=6, hours=23, minutes=59, seconds=55), "30 Nov 2026"),
    ],
    ids=str,
)
def test_times_as_people_say_them(distance: timedelta, text: str) -> None:
    assert ui.relative(NOW + distance, now=NOW) == text


def test_a_time_carries_its_absolute_utc_time() -> None:
    html = ui.when(datetime(2026, 11, 23, 13, 46, tzinfo=UTC), now=NOW)

    assert (
        html == '<time datetime="2026-11-23T13:46:00+00:00" title="2026-11-23 13:46:00 UTC">in 1 hour</time>'
    )
    assert ui.when(None) == '<span class="muted">Never</span>'


@pytest.mark.parametrize(
    ("value", "top", "css_class", "width"),
    [
        (0, 100, "meter", "0%"),
        (36, 100, "meter", "36%"),
        (90, 100, "meter warn", "90%"),
        (100, 100, "meter bad", "100%"),
        (250, 100, "meter bad", "100%"),
        (5, None, "meter", "0%"),
        (5, 0, "meter", "0%"),
    ],
)
def test_meter(value: int, top: int | None, css_class: str, width: str) -> None:
    html = charts.meter(value, top)

    assert f'class="{css_class}"' in html
    assert f'<rect class="fill" width="{width}"' in html


@pytest.mark.parametrize("values", [[], [3], [0, 0, 0], [1, 2, 3]], ids=str)
def test_sparkline_takes_any_number_of_values(values: list[float]) -> None:
    assert 'points="0.0,' in charts.sparkline(values)


def test_a_field_links_its_help_and_errors(db: None, as_owner: Client) -> None:
    page = text_of(as_owner.post(reverse("team:invite"), {"email": "nonsense", "role": "user"}))

    assert 'aria-invalid="true"' in page
    assert 'aria-describedby="id_email_helptext id_email_error"' in page
    assert '<label for="id_email">E-mail</label>' in page


def test_a_switch_is_a_checkbox_that_says_it_is_a_switch() -> None:
    html = Switch().render("core", True, {"id": "id_core"})

    assert 'type="checkbox"' in html
    assert 'role="switch"' in html
    assert "checked" in html
