"""S42: text that people and programs write stays text on every page of a real browser."""

import json
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from playwright.sync_api import BrowserContext, Page

from apperate.accounts import services as accounts
from apperate.accounts.audit import trail
from apperate.accounts.models import User, Workspace
from apperate.database.clock import database_now
from datasets.jobs import making, uploads
from datasets.jobs.run import run
from datasets.records.schema import parse_schema
from datasets.services import creating, writing
from datasets.storage import writes
from tests.conftest import sign_in_browser
from tests.support.factories import DatasetFactory, MembershipFactory, TokenFactory
from tokens.alert_models import Webhook
from tokens.models import TokenRefusal
from tokens.services import lifecycle as token_services

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPT = "<script>window.planted=1</script>"
IMAGE = "\"'><img src=x onerror=window.planted=2>"
SVG = "</textarea></script></style><svg onload=window.planted=3>"
LINK = "javascript:window.planted=4"
TEMPLATE = "{{ 7|add:7 }}{% debug %}${7*7}"
# What stands before the "@" of an address, in quotes, may be this.
ODD = '"<img/src=x/onerror=window.planted=6>"'
PLANTED = (SCRIPT, IMAGE, SVG, LINK, TEMPLATE)


@pytest.fixture
def planted(workspace: Workspace, owner: User, settings: Any, tmp_path: Any) -> dict[str, Any]:
    """A workspace whose every text is one of PLANTED; the ids that stand in addresses."""
    settings.INGEST_DIR = tmp_path
    now = database_now()
    User.objects.filter(pk=owner.pk).update(name=IMAGE, is_staff=True, is_superuser=True)
    Workspace.objects.filter(pk=workspace.pk).update(title=SVG)
    member = MembershipFactory(workspace=workspace, user__name=SCRIPT, user__email=f"{ODD}@example.com")
    document = {
        "type": "object",
        "properties": {
            "ticker": {"type": "string", "description": SCRIPT},
            "date": {"type": "date", "description": SVG},
            IMAGE: {"type": "string", "description": LINK},
        },
    }
    schema: Any = parse_schema(document, {"key": "ticker", "date": "date"})
    details = {"title": IMAGE, "description": SVG, "source": LINK}
    dataset: Any = creating.create_dataset(
        workspace=workspace, name="PLANTED", schema=schema, by=owner, now=now, details=details
    )
    records = [{"ticker": text, "date": "2024-01-02", IMAGE: text} for text in PLANTED]
    body = json.dumps(records).encode()
    assert writing.write_records(dataset_id=dataset.pk, body=body, replaces=False, now=now)
    making.delete_records(dataset_id=dataset.pk, selection=writes.Selection(SVG), token_id=None, now=now)
    file = tmp_path / "planted.csv"
    file.write_text(f"ticker,date\n{SCRIPT},{SVG}\n")
    with file.open("rb") as opened:
        job: Any = making.create(
            dataset_id=dataset.pk, file=opened, options=writing.IngestOptions(), now=now, by=owner,
            file_name=f"{IMAGE}.csv", is_queued=False,
        )  # fmt: skip
    run(job)
    token = TokenFactory(workspace=workspace, nickname=IMAGE)
    for text in PLANTED:
        TokenFactory(workspace=workspace, nickname=text)
        token_services.set_nickname(token=token, nickname=text, by=owner, now=now)
    TokenRefusal.objects.create(
        token_id=token.pk, code="domain-not-allowed", dataset_id=dataset.pk, site=IMAGE, calls=3,
        first_at=now, last_at=now,
    )  # fmt: skip
    Webhook.objects.create(
        workspace=workspace, url=f"https://{IMAGE}", ciphertext=b"x", created_at=now, tried_at=now, fault=SVG
    )
    trail.record("dataset.created", workspace=workspace, by=owner, target=SCRIPT, now=now, after={IMAGE: SVG})
    UserSession.objects.create(user=owner, ip="192.0.2.1", session_key="x" * 32, user_agent=IMAGE)
    DatasetFactory(workspace=workspace, name="GONE", title=IMAGE, description=SVG, deleted_at=now)
    upload: Any = uploads.keep(
        workspace=workspace, by=owner, name="NEW", file_name=f"{IMAGE}.csv", now=now,
        chunks=[f'"{SCRIPT}",date\n"{SVG}",2024-01-02\n'.encode()],
    )  # fmt: skip
    invited: Any = accounts.invite(
        workspace=workspace, email="lena@example.com", role="user", by=owner, now=now
    )
    workspace.invitations.update(email=f"{ODD}@example.org")
    return {
        "token": token.public_id,
        "job": job.public_id,
        "upload": upload.public_id,
        "join": invited.url.rstrip("/").rsplit("/", 1)[1],
        "member": member.pk,
        "workspace": workspace.pk,
        "user": owner.pk,
        "deletion": dataset.deletions.get().pk,
    }


PAGES = (
    "/start/", "/tokens/", "/tokens/?q=%22%3E%3Csvg%20onload%3Dwindow.planted%3D5%3E", "/tokens/usage/",
    "/tokens/{token}/", "/tokens/{token}/test/?method=GET&dataset=%3Cimg%20src%3Dx%20onerror%3D1%3E&at=now",
    "/tokens/{token}/rotate/", "/tokens/{token}/delete/", "/datasets/", "/datasets/PLANTED/",
    "/datasets/PLANTED/docs/", "/datasets/PLANTED/records/", "/datasets/PLANTED/schema/",
    "/datasets/PLANTED/records/?key=%22%3E%3Cimg%20src%3Dx%20onerror%3D1%3E",
    "/datasets/PLANTED/details/", "/datasets/PLANTED/delete/", "/datasets/PLANTED/add/",
    "/datasets/PLANTED/rename/", "/datasets/PLANTED/deletions/{deletion}/erase/", "/datasets/GONE/erase/",
    "/datasets/new/{upload}/", "/jobs/", "/jobs/{job}/", "/team/", "/team/workspace/", "/team/audit-log/",
    "/team/members/{member}/remove/", "/account/2fa/", "/account/sessions/", "/account/email/",
)  # fmt: skip
OPERATORS_PAGES = (
    "/operator/", "/operator/accounts/workspace/", "/operator/accounts/workspace/{workspace}/change/",
    "/operator/accounts/membership/", "/operator/accounts/user/", "/operator/accounts/user/{user}/change/",
    "/operator/accounts/invitation/", "/operator/accounts/workspace/{workspace}/history/",
)  # fmt: skip


def walk(page: Page, root: str, addresses: tuple[str, ...], planted: dict[str, Any]) -> str:
    """Open each page; what all of them show. Nothing that was planted runs, opens or becomes an element."""
    opened: list[str] = []
    page.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
    shown = ""
    for address in addresses:
        answer = page.goto(root + address.format_map(planted))

        assert answer and answer.status in {200, 422}, address
        assert page.evaluate("window.planted") is None, address
        assert page.locator("img[onerror], svg[onload], a[href^='javascript:' i]").count() == 0, address
        shown += page.locator("body").inner_text()
    assert opened == []
    return shown


@pytest.mark.check("S42")
def test_planted_text_stays_text_on_every_page(
    page: Page, live_server: Any, owner: User, planted: dict[str, Any]
) -> None:
    """The `page` fixture fails on a script error and on whatever the policy had to stop."""
    sign_in_browser(page, live_server, owner)

    shown = walk(page, live_server.url, PAGES, planted)
    page.context.clear_cookies()  # The invitation is for somebody else.
    shown += walk(page, live_server.url, ("/join/{join}/",), planted)

    # It was there to be seen, as it was written.
    assert all(text in shown for text in (*PLANTED, ODD))


@pytest.mark.check("S42", "S53")
def test_planted_text_stays_text_on_the_operators_pages(
    context: BrowserContext, live_server: Any, owner: User, planted: dict[str, Any]
) -> None:
    """They are Django's, have no icon, and so are opened without the `page` fixture."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation',"
        " e => console.error('CSP ' + e.violatedDirective + ' ' + e.blockedURI))"
    )
    page.on("console", lambda said: "CSP" in said.text and errors.append(said.text))
    sign_in_browser(page, live_server, owner)

    shown = walk(page, live_server.url, OPERATORS_PAGES, planted)

    assert SVG in shown and ODD in shown
    assert errors == []
