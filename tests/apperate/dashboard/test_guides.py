"""The guides under /docs/: for anybody, complete, linked from where they help, and true."""

import html
import re
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import Workspace
from apperate.guides import GUIDES, Guide
from apperate.kernel.refusals import Refusal
from datasets.api import trials
from tests.apperate.team.test_people import shows
from tests.clients import listed
from tests.support.factories import TokenFactory
from tokens.rules import domains

NOW = datetime(2026, 11, 26, tzinfo=UTC)
each = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.slug)


def text_of(guide: Guide) -> str:
    answer = Client().get(reverse("docs_guide", args=[guide.slug]))
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_guides_lead_from_one_to_the_next_and_back() -> None:
    for place, guide in enumerate(GUIDES):
        text = text_of(guide)
        for step, rel in ((-1, "prev"), (1, "next")):
            there = GUIDES[place + step] if 0 <= place + step < len(GUIDES) else None
            link = f'<a href="{reverse("docs_guide", args=[there.slug])}" rel="{rel}">' if there else ""
            assert link in text
        assert ('rel="prev"' in text) is (place > 0)
        assert (f'<a href="{reverse("docs_errors")}" rel="next">' in text) is (guide == GUIDES[-1])


@each
def test_every_code_of_a_guide_can_be_copied(guide: Guide) -> None:
    text = text_of(guide)

    told = re.findall(r'<pre tabindex="0" aria-label="([^"]+)">', text)
    assert re.findall(r' data-copy aria-label="Copy: ([^"]+)"', text) == told
    assert told or guide.slug in {"restrict-domains", "manage-users"}


@each
def test_a_guide_is_for_anybody_and_has_the_parts_that_it_lists(guide: Guide) -> None:
    text = text_of(guide)

    headings = re.findall(r'<h2 id="([\w-]+)">([^<]+)</h2>', text)
    named = {"parts-title": "On this page", "guides-title": "Guides"}
    assert [one for one in headings if one[0] not in named] == [*guide.parts]
    assert f"<title>{guide.title} · Apperate</title>" in text
    assert all(f'href="#{part}"' in text for part, _ in guide.parts)


@each
def test_its_links_lead_to_pages_and_parts_that_exist(guide: Guide, as_owner: Client) -> None:
    text = text_of(guide)
    main = text[text.index("<main") : text.index("</main>")]
    for address in set(re.findall(r'<a [^>]*href="(/[^"]*)"', main)):
        target = urlsplit(address)
        answer = as_owner.get(target.path)
        assert answer.status_code == 200, address
        assert not target.fragment or f'id="{target.fragment}"' in answer.content.decode(), address


@each
def test_its_requests_are_ones_that_the_api_takes(guide: Guide) -> None:
    commands = re.findall(r"<pre[^>]*>\n?(curl .*?)</pre>", text_of(guide), flags=re.DOTALL)
    assert bool(commands) == (guide.slug in {"get-started", "older-clients"})
    for command in map(html.unescape, commands):
        method = (re.findall(r"-X ([A-Z]+)", command) or ["GET"])[0]
        (path,) = re.findall(rf'"{re.escape(settings.PUBLIC_URL)}(/v1/[^"]*)"', command)
        asked = trials.parse({"method": method, "path": path.replace("…", "")}, now=NOW)
        assert not isinstance(asked, Refusal), (command, asked)


def test_its_domain_rules_are_rules() -> None:
    guide = next(guide for guide in GUIDES if guide.slug == "restrict-domains")

    rules = re.findall(r'<th scope="row"><code>([^<]+)</code></th>', text_of(guide))

    assert len(rules) == 4
    assert all(isinstance(domains.parse_rule(rule), domains.DomainRule) for rule in rules)
    assert isinstance(domains.parse_rule("*.com"), domains.RuleError)


def test_older_clients_are_pointed_here_by_the_code_that_is_tested() -> None:
    guide = next(guide for guide in GUIDES if guide.slug == "older-clients")

    told = re.findall(r'aria-label="The address in (\w+)">(.*?)</pre>', text_of(guide), flags=re.DOTALL)

    assert [client for client, _ in told] == ["iexjs", "pyEX", "iexfinance"]
    for client, code in told:
        assert f"{html.unescape(code)}\n" in listed.code(client, address=settings.PUBLIC_URL, token="")


def test_the_question_of_how_many_tokens_is_answered() -> None:
    text = text_of(GUIDES[1])

    assert '<h2 id="how-many-tokens">How many tokens do I need?</h2>' in text
    assert "NEVER share your secret token publicly" in text


def test_an_unknown_guide_is_404() -> None:
    assert Client().get("/docs/nothing/").status_code == 404


@pytest.mark.django_db
def test_guides_are_linked_from_where_they_help(as_owner: Client, workspace: Workspace) -> None:
    token = TokenFactory(workspace=workspace)
    expected = {
        reverse("tokens:list"): ["access-and-security/#how-many-tokens", "access-and-security/"],
        reverse("tokens:create"): ["access-and-security/"],
        reverse("tokens:edit", args=[token.public_id]): ["restrict-domains/"],
        reverse("datasets:list"): ["get-started/"],
        reverse("team:members"): ["manage-users/"],
        reverse("docs"): [f"{guide.slug}/" for guide in GUIDES],
    }
    for page, links in expected.items():
        answer = as_owner.get(page)
        for link in links:
            assert shows(answer, f'href="/docs/{link}"'), (page, link)
