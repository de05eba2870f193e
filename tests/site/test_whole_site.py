"""S12, S44, S46: what holds of every page, by walking the site."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver, reverse

from apperate.accounts.models import User, Workspace
from apperate.kernel import logs
from tests.apperate.dashboard.test_shell import OTHERS, routes
from tests.support.factories import DatasetFactory, TokenFactory
from tokens.rules.token_format import TokenKind

# What is written while somebody looks: that they are there, and that they took the log along.
OF_LOOKING = ("django_session", "apperate_cache", "accounts_auditevent")


def pages() -> Iterator[tuple[str, str]]:
    """Every route with a policy of its own, filled in, and the policy."""
    for route, view in routes(get_resolver().url_patterns):
        if not route.startswith(OTHERS):
            yield "/" + re.sub(r"<(?:\w+:)?\w+>", "1", route), getattr(view, "policy", "")


@pytest.mark.check("S12")
@pytest.mark.django_db
def test_a_token_opens_no_page(client: Client, workspace: Workspace) -> None:
    """S12: the secret token in every place an API takes it is nobody here."""
    value = TokenFactory(workspace=workspace, kind=TokenKind.SECRET).test_value
    asked = 0
    for path, policy in pages():
        if policy in ("member", "admin"):
            headers = {"Authorization": f"Bearer {value}", "X-API-Key": value}
            answer = client.get(path, {"token": value}, headers=headers)
            assert answer.status_code in {302, 404, 405}, path
            if answer.status_code == 302:
                assert answer.headers["Location"].startswith(reverse("account_login")), path
            asked += 1
    assert asked > 20


@pytest.mark.check("S46")
@pytest.mark.django_db
def test_no_page_takes_a_post_from_another_site(owner: User) -> None:
    """S46: each route that takes a POST refuses one without the CSRF value."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    refused = [path for path, _ in pages() if refuses(client, path)]

    assert len(refused) > 20


def refuses(client: Client, path: str) -> bool:
    status = client.post(path).status_code
    assert status in {403, 405}, path
    return status == 403


def changes(statement: str) -> bool:
    """Whether a statement writes something that looking does not."""
    is_write = re.match(r"\s*(INSERT|UPDATE|DELETE|TRUNCATE|WITH .*(INSERT|UPDATE|DELETE))", statement)
    return bool(is_write) and not any(table in statement for table in OF_LOOKING)


@pytest.mark.check("S46")
@pytest.mark.django_db
def test_looking_at_every_page_changes_nothing(as_owner: Client, workspace: Workspace) -> None:
    """S46: no state change by GET."""
    DatasetFactory(workspace=workspace)
    TokenFactory(workspace=workspace)
    with CaptureQueriesContext(connection) as asked:
        seen = {as_owner.get(path).status_code for path, _ in pages()}

    changing = [query["sql"] for query in asked.captured_queries if changes(query["sql"])]
    assert 200 in seen and max(seen) < 500
    assert changing == []


BREAKS = ["a\r\nb", "\x1b[2Kgone", 'x"}\n{"event": "made up"}', "\u2028", "\0", "\x9b2K"]


def log_line(rendering: tuple[Any, ...], text: str, error: Exception | None = None) -> str:
    """What is written of an event that somebody's text is part of."""
    line = settings.LOGGING["formatters"]["line"]
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[line["processors"][0], *rendering, line["processors"][-1]],
        foreign_pre_chain=line["foreign_pre_chain"],
    )
    raised = (type(error), error, None) if error else None
    record = logging.LogRecord("apperate", logging.INFO, "", 0, "said %s", (text,), raised)
    return formatter.format(record)


@pytest.mark.check("S44")
@pytest.mark.parametrize("text", BREAKS)
def test_an_event_of_the_log_is_one_line(text: str) -> None:
    """S44: whatever is in a name or a header, no second event can be made up."""
    line = log_line(logs.JSON, text)

    assert json.loads(line)["event"] == f"said {text}"
    assert len(line.splitlines()) == 1 and "\x1b" not in line


@pytest.mark.check("S44")
@pytest.mark.parametrize("text", BREAKS)
def test_an_event_in_a_terminal_is_one_line_too(text: str) -> None:
    """S44: nothing moves the cursor; of a traceback only indented lines follow."""
    line = log_line(logs.PLAIN, text)

    assert len(line.splitlines()) == 1 and line.isprintable()
    first, *rest = log_line(logs.PLAIN, text, ValueError(text)).splitlines()
    assert "said" in first and rest
    assert all(one.isprintable() and one.startswith("    ") for one in rest)
