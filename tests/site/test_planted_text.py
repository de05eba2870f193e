"""S42: text that people and programs write stays text on every page of a real browser."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page

from apperate.accounts.models import User, Workspace
from apperate.database.clock import database_now
from datasets.jobs import making
from datasets.jobs.run import run
from datasets.records.schema import parse_schema
from datasets.services import creating, writing
from datasets.storage import writes
from tests.conftest import sign_in_browser
from tests.support.factories import TokenFactory
from tokens.services import lifecycle as token_services

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPT = "<script>window.planted=1</script>"
IMAGE = "\"'><img src=x onerror=window.planted=2>"
SVG = "</textarea></script></style><svg onload=window.planted=3>"
LINK = "javascript:window.planted=4"
TEMPLATE = "{{ 7|add:7 }}{% debug %}${7*7}"
PLANTED = (SCRIPT, IMAGE, SVG, LINK, TEMPLATE)


@pytest.fixture
def planted(workspace: Workspace, owner: User, settings: Any, tmp_path: Any) -> dict[str, str]:
    """A workspace whose every text is one of PLANTED; the ids that stand in addresses."""
    settings.INGEST_DIR = tmp_path
    now = database_now()
    User.objects.filter(pk=owner.pk).update(name=IMAGE)
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
    return {"token": token.public_id, "job": job.public_id}


PAGES = (
    "/start/", "/tokens/", "/tokens/?q=%22%3E%3Csvg%20onload%3Dwindow.planted%3D5%3E", "/tokens/usage/",
    "/tokens/{token}/", "/tokens/{token}/test/?method=GET&dataset=%3Cimg%20src%3Dx%20onerror%3D1%3E&at=now",
    "/tokens/{token}/rotate/", "/datasets/", "/datasets/PLANTED/",
    "/datasets/PLANTED/docs/", "/datasets/PLANTED/records/", "/datasets/PLANTED/schema/",
    "/datasets/PLANTED/details/", "/datasets/PLANTED/delete/",
    "/datasets/PLANTED/records/?key=%22%3E%3Cimg%20src%3Dx%20onerror%3D1%3E", "/jobs/", "/jobs/{job}/",
    "/team/", "/team/workspace/", "/team/audit-log/", "/account/2fa/",
)  # fmt: skip


@pytest.mark.check("S42")
def test_planted_text_stays_text_on_every_page(
    page: Page, live_server: Any, owner: User, planted: dict[str, str]
) -> None:
    """The `page` fixture fails on a script error and on whatever the policy had to stop."""
    sign_in_browser(page, live_server, owner)
    opened: list[str] = []
    page.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
    shown = ""
    for address in PAGES:
        answer = page.goto(live_server.url + address.format_map(planted))

        assert answer and answer.status in {200, 422}, address
        assert page.evaluate("window.planted") is None, address
        assert page.locator("img[onerror], svg[onload], a[href^='javascript:' i]").count() == 0, address
        shown += page.locator("body").inner_text()
    assert opened == []
    # It was there to be seen, as it was written.
    assert all(text in shown for text in PLANTED)
