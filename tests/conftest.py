"""Fixtures for all tests: the cast, a browser, and a client of the data plane. PostgreSQL is real."""

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files
from shutil import which
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.test import Client, TransactionTestCase
from psycopg import sql

from apperate.accounts.models import Membership, Role, User, Workspace
from tests.support.factories import PASSWORD, MembershipFactory, UserFactory, WorkspaceFactory

if TYPE_CHECKING:
    from tests.support.data_plane_client import DataPlaneClient
    from tests.support.installation import Demo

# Fixtures that several folders share; pytest finds them by name.
pytest_plugins = [
    "tests.support.counting_proxy",
    "tests.support.records_api",
    "tests.support.upgrade.scratch_database",
    "tests.support.served",
    "tests.support.stored",
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
]
ACCESSIBILITY_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOUR_RULES = ["color-contrast", "link-in-text-block"]
MADE_BY_MIGRATE = {"django_content_type", "auth_permission"}
RECORD_TABLES = {"records", "deleted_records"}
AUDIT_TABLE = "accounts_auditevent"  # Its rows are not to be deleted one by one, and a trigger sees to that.
DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "live_server", "django_db_setup"}


def pytest_itemcollected(item: pytest.Item) -> None:
    fixtures = set(getattr(item, "fixturenames", ()))
    if fixtures & DATABASE_FIXTURES or item.get_closest_marker("django_db"):
        item.add_marker("database")
    if "browser" in fixtures:
        item.add_marker("browser")
    for mark in item.iter_markers("check"):
        item.extra_keyword_matches.update(mark.args)


@pytest.hookimpl(trylast=True)  # After the hook that sorts the tests by their fixtures.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by file, as the workers take them: those with a server first, because they take long.

    Those with a browser last: once one has started, no coroutine can be waited for in its process.
    """
    with_server, with_browser = (
        {item.path for item in items if item.get_closest_marker(name)} for name in ("server", "browser")
    )
    items.sort(key=lambda item: (item.path in with_browser, item.path not in with_server))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database, which at the end is left by everybody: a killed worker's session may linger."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        # Tests that commit are cleaned up after by truncating it.
        cursor.execute(f"ALTER TABLE {AUDIT_TABLE} DISABLE TRIGGER audit_table_stays")
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            """SELECT pid, state, left(query, 200), pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user"""
        )
        for pid, state, query, _ in cursor.fetchall():
            print(f"a session was left: pid={pid} state={state} query={query}", file=sys.stderr)
        connection.close()


@pytest.fixture(scope="session", autouse=True)
def _quick_emptying() -> Iterator[None]:
    """After a test that commits, rows are deleted where there are any.

    Django truncates every table and then makes all permissions again, which takes longer than most tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _case: empty_tables())
        yield


def empty_tables() -> None:
    """Delete all rows that tests have left, also those of the tables that are not Django's to empty."""
    of_django = set(connection.introspection.django_table_names(only_existing=True))
    tables = of_django - MADE_BY_MIGRATE | RECORD_TABLES
    is_used = sql.SQL("SELECT {} WHERE EXISTS (SELECT 1 FROM {})")
    used = sql.SQL(" UNION ALL ").join(
        is_used.format(sql.Literal(name), sql.Identifier(name)) for name in sorted(tables)
    )
    # Foreign keys are compared at the end of the transaction, so the order does not matter.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(used)
        for (name,) in cursor.fetchall():
            emptied = "TRUNCATE {}" if name == AUDIT_TABLE else "DELETE FROM {}"
            cursor.execute(sql.SQL(emptied).format(sql.Identifier(name)))


@pytest.fixture(scope="session", autouse=True)
def _copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where installations that were started once are kept, for all workers of a run; pytest tidies it up."""
    from tests.support.installation import Installation

    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Installation, "copies", base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
        yield


@pytest.fixture
def workspace(db: None) -> Workspace:
    return WorkspaceFactory(name="ACME", title="Acme")


@pytest.fixture
def owner(workspace: Workspace) -> User:
    return MembershipFactory(workspace=workspace, role=Role.PRIMARY, user__email="owner@example.com").user


@pytest.fixture
def admin(workspace: Workspace) -> User:
    return MembershipFactory(workspace=workspace, role=Role.ADMIN, user__email="admin@example.com").user


@pytest.fixture
def teammate(workspace: Workspace) -> User:
    """A member who may look and call, not manage."""
    return MembershipFactory(workspace=workspace, role=Role.USER, user__email="teammate@example.com").user


@pytest.fixture
def outsider(db: None) -> User:
    """A person of another workspace."""
    return MembershipFactory(role=Role.PRIMARY, user__email="outsider@example.com").user


@pytest.fixture
def stranger(db: None) -> User:
    """A person of no workspace at all."""
    return UserFactory(email="stranger@example.com")


def signed_in(user: User) -> Client:
    client = Client()
    assert client.login(email=user.email, password=PASSWORD)
    return client


def sign_in_browser(page: Any, live_server: Any, user: User) -> None:
    """Give the page of a browser the session of a person."""
    session = signed_in(user).cookies[django_settings.SESSION_COOKIE_NAME]
    page.context.add_cookies([{"name": session.key, "value": session.value, "url": live_server.url}])


@pytest.fixture
def as_owner(owner: User) -> Client:
    return signed_in(owner)


@pytest.fixture
def as_admin(admin: User) -> Client:
    return signed_in(admin)


@pytest.fixture
def as_teammate(teammate: User) -> Client:
    return signed_in(teammate)


@pytest.fixture
def as_outsider(outsider: User) -> Client:
    return signed_in(outsider)


@pytest.fixture
def membership(owner: User, workspace: Workspace) -> Iterator[Membership]:
    yield workspace.memberships.get(user=owner)


@pytest.fixture(scope="session")
def demo() -> Iterator["Demo"]:
    """The server that `manage.py up` starts, with two workers, the demo, and a delay of five seconds."""
    from tests.support.installation import Demo, started

    with started(Demo) as demo:
        yield demo


@pytest.fixture
def api(transactional_db: None) -> Iterator["DataPlaneClient"]:
    """The data plane, with its background work, in this process."""
    from tests.support.data_plane_client import DataPlaneClient  # It sets the whole application up.

    client = DataPlaneClient()
    yield client
    client.close()


# --- a real browser -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Debian's Chromium: no browser is downloaded."""
    browser = next(filter(None, map(which, BROWSERS)), None)
    assert browser, "the browser tests need Chromium; `make test` installs it on Debian"
    return {**browser_type_launch_args, "executable_path": browser, "args": BROWSER_ARGUMENTS}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    viewport = {"width": 1280, "height": 900}
    settings = {"viewport": viewport, "reduced_motion": "reduce", "locale": "en-GB", "timezone_id": "UTC"}
    return {**browser_context_args, **settings}


@pytest.fixture
def page(page: Any) -> Iterator[Any]:
    """A page whose console errors, script errors and CSP reports fail the test that caused them."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    # A form that comes back with errors is a 422, and the browser's console says so.
    page.on(
        "console",
        lambda message: (
            problems.append(message.text) if message.type == "error" and "422" not in message.text else None
        ),
    )
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation',"
        " e => console.error('CSP ' + e.violatedDirective + ' ' + e.blockedURI))"
    )
    page.set_default_timeout(10_000)
    yield page
    assert not problems, problems


@pytest.fixture(scope="session")
def axe() -> Any:
    """axe(page) fails when the page breaks a rule; axe(page, COLOUR_RULES) asks those of colours alone."""
    script = (files("axe_playwright_python") / "axe.min.js").read_text()

    def run(page: Any, rules: Sequence[str] = ACCESSIBILITY_RULES) -> None:
        if not page.evaluate("'axe' in window"):
            page.evaluate(script)  # Over the debug protocol, so the page's CSP does not stop it.
        # What holds is not described, which takes longer than to find it.
        options = {"runOnly": list(rules), "resultTypes": ["violations"]}
        result = page.evaluate("options => axe.run(document, options)", options)
        found = [
            f"{rule['id']} ({rule['impact']}): {node['target']} {node['failureSummary']}"
            for rule in result["violations"]
            for node in rule["nodes"]
        ]
        assert not found, "\n".join(found)

    return run
