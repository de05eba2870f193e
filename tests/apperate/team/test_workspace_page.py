"""The page "Workspace": admins set the webhook of the alerts, its secret is shown once."""

import json
import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database import sealing
from apperate.kernel.keyring import KeyRing, UnreadableSecret
from tests.apperate.team.test_people import shows
from tests.conftest import sign_in_browser
from tests.support.receiver import Receiver, receiving
from tokens.alert_models import Webhook
from tokens.alerts import webhook_settings
from tokens.services import reencryption

pytestmark = pytest.mark.django_db
PAGE = "team:workspace"
URL = "https://example.com/hook?key=inner"


def set_webhook(client: Client, url: str = URL) -> str:
    """Save an address on the page; the secret that the answer shows, if any."""
    answer = client.post(reverse("team:webhook_save"), {"url": url}, follow=True)
    assert answer.status_code == 200
    found = re.search(r"whsec_[A-Za-z0-9+/]{43}=", answer.content.decode())
    return found[0] if found else ""


def test_an_admin_sets_an_address_and_sees_its_secret_once(as_admin: Client, workspace: Workspace) -> None:
    secret = set_webhook(as_admin)
    webhook = Webhook.objects.get(workspace=workspace)

    page = as_admin.get(reverse(PAGE))

    assert sealing.unseal_webhook_secret(webhook.ciphertext, workspace_id=workspace.pk) == secret != ""
    assert shows(page, URL) and "whsec_" not in page.content.decode()
    assert "no-store" in page.headers["Cache-Control"]
    assert secret.encode() not in bytes(webhook.ciphertext)
    told = str(list(AuditEvent.objects.values()))
    assert secret not in told and "key=inner" not in told and "example.com" in told


def test_another_address_keeps_the_secret_and_a_new_secret_keeps_the_address(
    as_owner: Client, workspace: Workspace
) -> None:
    first = set_webhook(as_owner)

    assert set_webhook(as_owner, "https://example.org/other") == ""
    answer = as_owner.post(reverse("team:webhook_secret"))

    webhook = Webhook.objects.get(workspace=workspace)
    second = sealing.unseal_webhook_secret(webhook.ciphertext, workspace_id=workspace.pk)
    assert webhook.url == "https://example.org/other"
    assert second != first and shows(answer, second)
    actions = AuditEvent.objects.filter(target="ACME", action__startswith="webhook.").order_by("pk")
    assert list(actions.values_list("action", flat=True)) == [
        "webhook.saved", "webhook.saved", "webhook.secret_renewed",
    ]  # fmt: skip
    assert (actions[1].before, actions[1].after) == ({"host": "example.com"}, {"host": "example.org"})


@pytest.mark.parametrize(
    "url", ["", "ftp://example.com", "https://a:b@example.com", "example.com", "http://["]
)
def test_an_address_that_is_none_is_explained(as_admin: Client, url: str) -> None:
    answer = as_admin.post(reverse("team:webhook_save"), {"url": url})

    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.content.decode()
    assert not Webhook.objects.exists()


def test_users_see_that_there_is_one_and_change_nothing(
    as_teammate: Client, workspace: Workspace, owner: User
) -> None:
    """The address itself may hold a key, so it is for those who manage."""
    webhook_settings.save(workspace=workspace, url=URL, by=owner, now=workspace.created_at)

    page = as_teammate.get(reverse(PAGE))

    assert page.status_code == 200 and "key=inner" not in page.content.decode()
    for name in ("webhook_save", "webhook_secret", "webhook_remove", "webhook_test"):
        assert as_teammate.post(reverse(f"team:{name}"), {"url": "https://example.org"}).status_code == 403
    assert Webhook.objects.get().url == URL


@pytest.mark.check("S13")
def test_people_of_other_workspaces_reach_their_own_alone(
    as_outsider: Client, workspace: Workspace, owner: User
) -> None:
    webhook_settings.save(workspace=workspace, url=URL, by=owner, now=workspace.created_at)

    assert "key=inner" not in as_outsider.get(reverse(PAGE)).content.decode()
    for name in ("webhook_secret", "webhook_remove", "webhook_test"):
        assert shows(as_outsider.post(reverse(f"team:{name}"), follow=True), "The workspace has no webhook.")
    assert Webhook.objects.get().workspace == workspace


def test_removing_it_removes_its_secret(as_admin: Client) -> None:
    set_webhook(as_admin)

    answer = as_admin.post(reverse("team:webhook_remove"), follow=True)

    assert shows(answer, "The webhook is removed.")
    assert not Webhook.objects.exists()


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOK_NETWORKS = (ip_network("127.0.0.0/8"),)
    with receiving() as receiver:
        yield receiver


def test_a_test_is_sent_at_once_and_says_what_came_of_it(as_admin: Client, receiver: Receiver) -> None:
    set_webhook(as_admin, receiver.url())

    taken = as_admin.post(reverse("team:webhook_test"), follow=True)
    receiver.answers = [b"HTTP/1.1 500 <script>\r\n\r\n"]
    refused = as_admin.post(reverse("team:webhook_test"), follow=True)

    document = json.loads(receiver.requests[0][1])
    assert (document["type"], document["workspace"]) == ("test", "ACME")
    assert shows(taken, "The test was taken.") and shows(taken, "Taken")
    assert shows(refused, "The test was not taken. It answered 500.") and shows(refused, "Not taken")


def test_a_test_does_not_reach_into_the_network(as_admin: Client, receiver: Receiver, settings: Any) -> None:
    """S43: nothing is connected to unless the operator allows it."""
    settings.WEBHOOK_NETWORKS = ()
    set_webhook(as_admin, receiver.url())

    answer = as_admin.post(reverse("team:webhook_test"), follow=True)

    assert shows(answer, "The host is not on the public internet")
    assert receiver.connections == 0


def test_its_secret_is_bound_to_its_workspace_and_follows_the_key_ring(
    as_admin: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S02: another row's bytes decrypt nothing, and `manage.py reencrypt` takes webhooks along."""
    secret = set_webhook(as_admin)
    old = Webhook.objects.get().ciphertext
    with pytest.raises(UnreadableSecret):
        sealing.unseal_webhook_secret(old, workspace_id=workspace.pk + 1)
    key, new_key = b"o" * 32, b"n" * 32
    webhook = Webhook.objects.get()
    webhook.ciphertext = KeyRing([key]).encrypt(secret, bound_to=sealing.webhook_row(workspace.pk))
    webhook.save(update_fields=["ciphertext"])

    monkeypatch.setattr(sealing, "keys", lambda: KeyRing([new_key, key]))
    outcome = reencryption.reencrypt()

    assert (outcome.encrypted, outcome.unreadable) == (1, ())
    moved = Webhook.objects.get().ciphertext
    assert KeyRing([new_key]).decrypt(moved, bound_to=sealing.webhook_row(workspace.pk)) == secret


@pytest.mark.django_db(transaction=True)
def test_the_page_is_walked_in_a_browser(
    page: Page, live_server: Any, owner: User, receiver: Receiver, axe: Any
) -> None:
    """A mistake, an address with its secret, a test; accessible, and no wider than a phone."""
    sign_in_browser(page, live_server, owner)
    page.goto(live_server.url + reverse(PAGE))
    address = page.get_by_label("Address")

    address.fill("ftp://example.com")
    page.get_by_role("button", name="Save address").click()
    expect(address).to_have_attribute("aria-invalid", "true")
    axe(page)
    address.fill(receiver.url())
    page.get_by_role("button", name="Save address").click()
    expect(page.locator("#webhook-secret")).to_contain_text("whsec_")
    page.set_viewport_size({"width": 320, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("The test was taken.")).to_be_visible()
    expect(page.locator("#webhook-secret")).to_have_count(0)
    page.emulate_media(color_scheme="dark")
    axe(page)
