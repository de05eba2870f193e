"""The token pages as a person without script uses them, and the fragments that htmx asks for."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.clock import database_now, month_of, next_month
from tests.support.factories import PASSWORD, DatasetFactory, RevisionFactory, TokenFactory
from tokens.models import CreditWindow, Status, Token, UsageCounter
from tokens.rules.permissions import Settings
from tokens.selectors import LISTED, PAGE_ROWS, with_status
from tokens.services import lifecycle

HTMX = {"HX-Request": "true"}
LIST = "/tokens/"
QUERIES_MAX = 10


@pytest.fixture
def token(workspace: Workspace, owner: User) -> Token:
    created = lifecycle.create_publishable_token(
        workspace=workspace, by=owner, now=database_now(), nickname="Customer XYZ", active_at_once=True
    )
    assert isinstance(created, Token)
    return created


@pytest.fixture
def secret(workspace: Workspace, owner: User) -> Token:
    return lifecycle.create_secret_token(workspace=workspace, by=owner, now=database_now())


def page(client: Client, url: str, *, status: int = 200, **headers: str) -> str:
    response = client.get(url, headers=headers)
    assert response.status_code == status, response.status_code
    return response.content.decode()


def url(name: str, token: Token) -> str:
    return reverse(f"tokens:{name}", args=[token.public_id])


def form_data(client: Client, token: Token, **changes: Any) -> dict[str, Any]:
    """What a browser without script would post for the token's form, with some changes."""
    form = client.get(url("edit", token)).context["form"]
    data = {name: form[name].value() for name in form.fields}
    data = {name: value for name, value in data.items() if value not in (None, False, "")}
    return data | {name: value for name, value in changes.items() if value is not None}


def trusted(client: Client) -> None:
    """Give the password again, as before something sensitive."""
    assert client.post("/account/reauthenticate/", {"password": PASSWORD}).status_code == 302


# --- the list -----------------------------------------------------------------------------------


def test_list_shows_tokens_oldest_first(as_owner: Client, secret: Token, token: Token) -> None:
    newest = lifecycle.create_publishable_token(
        workspace=token.workspace, by=None, now=database_now(), nickname="Newest"
    )

    html = page(as_owner, LIST)

    places = [html.index(f'id="{one.public_id}"') for one in (secret, token, newest)]
    assert places == sorted(places)
    assert "Customer XYZ" in html and token.masked in html
    assert f'data-copy-text="{token.value}"' in html
    assert 'aria-label="Settings of Customer XYZ"' in html
    assert "Create new token" in html
    assert "Activating" in html and "data-countdown" in html


def test_list_shows_usage_against_the_limit_in_words(as_owner: Client, token: Token) -> None:
    lifecycle.save_settings(
        token=token, changes=Settings(core_credit_limit=100), by=None, now=database_now(), based_on=None
    )
    CreditWindow.objects.create(token=token, month=month_of(database_now()).date(), used=96)
    assert "96% of limit" in page(as_owner, LIST)

    CreditWindow.objects.update(used=100)
    assert "Limit reached" in page(as_owner, LIST)
    assert "is reached" in page(as_owner, url("edit", token))


def test_form_says_what_is_used_when_it_starts_again_and_where_the_month_ends(
    as_owner: Client, token: Token
) -> None:
    lifecycle.save_settings(
        token=token, changes=Settings(core_credit_limit=10_000_000), by=None, now=database_now(),
        based_on=None,
    )  # fmt: skip
    html = page(as_owner, url("edit", token))
    assert f'starts again at 0 on <time datetime="{next_month(database_now()).isoformat()}' in html
    assert "At this pace" not in html

    now = database_now()
    CreditWindow.objects.create(token=token, month=month_of(now).date(), used=2_000)
    html = page(as_owner, url("edit", token))

    assert "2,000 used so far this month of 10,000,000 (0%)" in html
    if now - month_of(now) > timedelta(hours=1):
        assert "by the end of the month" in html
    else:
        assert "At this pace" not in html


@pytest.mark.parametrize(
    ("query", "found"),
    [("?q=customer", True), ("?q=nothing", False), ("?kind=publishable", True), ("?kind=secret", False),
     ("?kind=trash", False), ("?kind=%00&page=99999999", True), ("?page=-1", True), ("?page=²", True)],
)  # fmt: skip
def test_list_is_filtered_by_its_address(as_owner: Client, token: Token, query: str, found: bool) -> None:
    assert (f'id="{token.public_id}"' in page(as_owner, LIST + query)) is found


def test_list_finds_a_token_by_its_whole_value_and_by_its_end(as_owner: Client, token: Token) -> None:
    for words in (token.value, token.masked[-4:], token.public_id):
        assert f'id="{token.public_id}"' in page(as_owner, f"{LIST}?q={words}")


def test_list_is_narrowed_to_each_status_as_the_tokens_say_it(workspace: Workspace) -> None:
    """The database decides like Token.status(), for every combination of what decides."""
    now = database_now()
    soon, before = now + timedelta(seconds=60), now - timedelta(days=1)
    for disabled_at in (None, before):
        for expires_at in (None, before, now, soon):
            for starts in ([], [before], [soon], [before, soon], [before, now], [soon, soon]):
                token = TokenFactory(
                    workspace=workspace, disabled_at=disabled_at, expires_at=expires_at, settings=False
                )
                for number, effective_at in enumerate(starts, 1):
                    RevisionFactory(token=token, number=number, saved_at=before, effective_at=effective_at)
    tokens = workspace.tokens.all()

    found = {status: set(with_status(tokens, status, now=now)) for status in LISTED}

    assert found == {status: {one for one in tokens if one.status(now=now) == status} for status in LISTED}
    assert all(found.values())


def test_list_keeps_words_kind_and_status_in_every_address(
    as_owner: Client, token: Token, workspace: Workspace
) -> None:
    TokenFactory.create_batch(PAGE_ROWS + 1, workspace=workspace, nickname="Many")

    html = page(as_owner, f"{LIST}?q=many&kind=publishable&status=active")

    assert f'id="{token.public_id}"' not in html and html.count('class="cell-title') == PAGE_ROWS
    assert f'href="{LIST}?status=active&amp;q=many"' in html
    assert f'href="{LIST}?kind=secret&amp;status=active&amp;q=many"' in html
    assert f'href="{LIST}?kind=publishable&amp;status=active&amp;q=many&amp;page=2"' in html
    assert '<option value="active" selected>' in html
    assert "has this status" in page(as_owner, f"{LIST}?status=expired")
    assert f'id="{token.public_id}"' in page(as_owner, f"{LIST}?status=nothing&q=customer")


def test_list_costs_at_most_ten_queries_for_a_thousand_tokens(
    as_owner: Client, workspace: Workspace, django_assert_max_num_queries: Any
) -> None:
    dataset = DatasetFactory(workspace=workspace)
    tokens = [TokenFactory(workspace=workspace, settings={"grants": {dataset: "read"}}) for _ in range(1_000)]
    UsageCounter.objects.create(
        token_id=tokens[0].pk, operation="read", outcome="ok", minute=database_now(), calls=1
    )
    as_owner.get(LIST)

    with django_assert_max_num_queries(QUERIES_MAX):
        html = page(as_owner, LIST)

    assert html.count('class="cell-title') == 100
    assert "1 dataset<" in html
    assert '<span class="count">1,000</span>' in html
    assert f'id="{tokens[-1].public_id}"' in page(as_owner, f"{LIST}?page=10")


# --- creating -----------------------------------------------------------------------------------


def test_create_asks_first_and_says_what_a_publishable_token_may(as_owner: Client) -> None:
    html = page(as_owner, "/tokens/new/")

    assert "Are you sure you want to add a publishable token?" in html
    assert "Core dataset read access by default and accept any referrer until you limit them" in html
    assert ">Cancel<" in html and ">Add publishable token<" in html
    assert not Token.objects.exists()


def test_create_without_script_leads_to_the_new_row(as_owner: Client, workspace: Workspace) -> None:
    response = as_owner.post("/tokens/new/", follow=True)

    token = workspace.tokens.get()
    assert response.redirect_chain[0][0] == f"/tokens/?new={token.public_id}#{token.public_id}"
    html = response.content.decode()
    assert 'class="is-new"' in html
    assert f"Publishable token {token.masked} created" in html
    assert token.status(now=database_now()) == Status.ACTIVATING


def test_create_with_htmx_answers_the_list_and_a_toast(as_owner: Client, secret: Token) -> None:
    response = as_owner.post("/tokens/new/", headers=HTMX)

    html = response.content.decode()
    assert html.strip().startswith("<section") and 'class="is-new"' in html
    assert 'hx-swap-oob="beforeend"' in html
    assert response.headers["HX-Push-Url"] == LIST


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_create_beyond_the_plan_says_what_to_do(
    as_owner: Client, workspace: Workspace, secret: Token, token: Token, headers: dict[str, str]
) -> None:
    workspace.plan = "launch"
    workspace.save(update_fields=["plan"])

    response = as_owner.post("/tokens/new/", headers=headers)

    assert response.status_code == 422
    assert "The Launch plan has room for 2 tokens" in response.content.decode()
    assert workspace.tokens.count() == 2
    if headers:
        assert response.headers["HX-Retarget"] == "#create-form"


# --- the form -----------------------------------------------------------------------------------


def test_form_has_its_fields_in_the_order_of_the_product(as_owner: Client, token: Token) -> None:
    html = page(as_owner, url("edit", token))

    labels = ["Nickname", "Signed Requests", "Core Data Access", "Premium Data Access", "Dataset permissions",
              "Allowed Domain(s)", "Core Credit Usage Limit", "More",
              "Requests per second", "Burst", "Report-only domains", "Expiry", "Done"]  # fmt: skip
    places = [re.search(rf">\s*{re.escape(label)}\s*<", html).start() for label in labels]  # type: ignore[union-attr]
    assert places == sorted(places)


@pytest.mark.check("S24")
def test_form_says_that_a_referer_can_be_forged_and_path_rules_rarely_work(
    as_owner: Client, token: Token
) -> None:
    """S24: nobody takes domain rules for more than they are."""
    html = page(as_owner, url("edit", token))

    assert "outside a browser anybody can forge the Referer" in html
    assert "a rule with a path rarely works" in html


def test_done_without_script_saves_and_shows_what_is_pending(as_owner: Client, token: Token) -> None:
    data = form_data(as_owner, token, nickname="Customer ABC", core_credit_limit="500,000")

    response = as_owner.post(url("edit", token), data, follow=True)

    html = response.content.decode()
    assert response.redirect_chain[0] == (url("edit", token), 302)
    assert "Saved. The new settings take effect at" in html
    assert "no limit" in html and "500,000 credits a month" in html
    assert "Undo" in html and "Apply now" in html
    token = Token.objects.get(pk=token.pk)
    assert token.nickname == "Customer ABC"
    assert token.versions(now=database_now()).pending.core_credit_limit == 500_000


def test_done_with_htmx_answers_the_page_as_a_fragment(as_owner: Client, token: Token) -> None:
    data = form_data(as_owner, token, core_credit_limit="5")

    response = as_owner.post(url("edit", token), data, headers=HTMX)

    html = response.content.decode()
    assert response.status_code == 200
    assert html.strip().startswith('<div class="stack" id="page">') and "<html" not in html
    assert "Change pending" in html and "Saved. The new settings" in html


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_wrong_values_are_kept_and_explained(as_owner: Client, token: Token, headers: dict[str, str]) -> None:
    data = form_data(as_owner, token, allowed_domains="a,b", core_credit_limit="lots", nickname="Kept")

    response = as_owner.post(url("edit", token), data, headers=headers)

    html = response.content.decode()
    assert response.status_code == 422
    assert "Separate rules by spaces" in html and "Write a whole number of credits" in html
    assert "a,b</textarea>" in html and 'value="lots"' in html and 'value="Kept"' in html
    assert 'aria-invalid="true"' in html
    assert ("<html" not in html) is bool(headers)
    assert token.revisions.count() == 1


def test_second_editor_sees_what_changed_and_may_then_replace_it(as_owner: Client, token: Token) -> None:
    data = form_data(as_owner, token, core_credit_limit="7")
    lifecycle.save_settings(
        token=token, changes=Settings(core_credit_limit=5), by=None, now=database_now(), based_on=1
    )

    first = as_owner.post(url("edit", token), data)
    html = first.content.decode()
    assert first.status_code == 422
    assert "Core Credit Usage Limit is now 5 credits a month (was no limit)" in html
    assert 'name="based_on" value="2"' in html and 'value="7"' in html

    as_owner.post(url("edit", token), data | {"based_on": "2"})
    assert token.versions(now=database_now()).saved.core_credit_limit == 7


def test_lists_that_share_no_site_are_warned_of(as_owner: Client, token: Token) -> None:
    for domains in ("www.example.com", "www.example.org"):
        as_owner.post(url("edit", token), form_data(as_owner, token, allowed_domains=domains))
        if domains == "www.example.com":
            lifecycle.apply_now(token=token, by=None, now=database_now())

    assert "No site can call until then" in page(as_owner, url("edit", token))


def test_undo_and_apply_now_are_forms_for_admins(as_owner: Client, token: Token) -> None:
    as_owner.post(url("edit", token), form_data(as_owner, token, core_credit_limit="5"))
    html = as_owner.post(url("undo", token), follow=True).content.decode()
    assert "The pending change is undone" in html and "Undo<" not in html

    as_owner.post(url("edit", token), form_data(as_owner, token, core_credit_limit="6"))
    html = as_owner.post(url("apply_now", token), follow=True).content.decode()
    assert "The change is in force" in html
    assert Token.objects.get(pk=token.pk).versions(now=database_now()).in_force.core_credit_limit == 6

    assert "a token with a pending change" in as_owner.post(url("undo", token), follow=True).content.decode()


def test_row_and_state_turn_active_when_the_time_has_come(
    as_owner: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = database_now()
    token = lifecycle.create_publishable_token(workspace=workspace, by=None, now=now)
    assert "Activating" in page(as_owner, url("row", token), **HTMX)

    monkeypatch.setattr("tokens.pages.tokens.database_now", lambda: now + lifecycle.delay())

    for name in ("row", "state"):
        html = page(as_owner, url(name, token), **HTMX)
        assert "Active" in html and "Activating" not in html and "data-countdown" not in html


def test_disable_enable_delete_and_restore(as_owner: Client, token: Token) -> None:
    html = as_owner.post(url("disable", token), follow=True).content.decode()
    assert "This token is disabled: every request is refused" in html
    assert "Disabled" in as_owner.post(url("disable", token), headers=HTMX).content.decode()

    as_owner.post(url("enable", token))
    assert Token.objects.get(pk=token.pk).disabled_at is None

    assert "Delete Customer XYZ?" in page(as_owner, url("delete", token))
    html = as_owner.post(url("delete", token), follow=True).content.decode()
    assert "Customer XYZ is in the trash" in html and f'id="{token.public_id}"' not in html
    assert "Restore Customer XYZ" in page(as_owner, f"{LIST}?kind=trash")
    assert "This token is in the trash" in page(as_owner, url("edit", token))
    data = {"nickname": "Changed", "core_credit_limit": "5"}
    assert as_owner.post(url("edit", token), data).status_code == 422

    as_owner.post(url("restore", token))
    assert Token.objects.get(pk=token.pk).deleted_at is None


def test_picker_finds_datasets_and_keeps_what_is_ticked(as_owner: Client, token: Token) -> None:
    for name in ("CARS", "NEWS"):
        DatasetFactory(workspace=token.workspace, name=name)
    DatasetFactory(name="CARS_OF_OTHERS")

    html = page(as_owner, f"{url('datasets', token)}?q=car&perm=NEWS:read", **HTMX)

    assert 'value="CARS:read"' in html and "CARS_OF_OTHERS" not in html
    assert re.search(r'value="NEWS:read"[^>]* checked', html)


def test_activity_labels_made_up_usage(as_owner: Client, token: Token) -> None:
    now = database_now()
    common = {"token_id": token.pk, "operation": "read", "minute": now.replace(second=0, microsecond=0)}
    UsageCounter.objects.create(**common, outcome="ok", calls=40, credits=3, is_demo=True)
    UsageCounter.objects.create(**common, outcome="domain-not-allowed", calls=2)

    html = page(as_owner, url("edit", token))

    assert "Demo data" in html and "<dd>42</dd>" in html and "<dd>2</dd>" in html


def test_example_uses_a_dataset_the_token_may_read(as_owner: Client, token: Token) -> None:
    assert "/v1/data/CORE/HISTORICAL_PRICES" in page(as_owner, url("edit", token))

    DatasetFactory(workspace=token.workspace, name="CARS")
    as_owner.post(url("edit", token), form_data(as_owner, token, perm=["CARS:read"]))
    html = page(as_owner, url("edit", token))
    assert f"{settings.PUBLIC_URL}/v1/data/ACME/CARS" in html and token.value in html


# --- the secret token ---------------------------------------------------------------------------


def test_secret_page_has_a_warning_and_no_settings(as_owner: Client, secret: Token) -> None:
    html = page(as_owner, url("edit", secret))

    assert "NEVER share your secret token publicly" in html
    assert "Reveal secret token" in html and "Disable" in html
    assert "Allowed Domain" not in html and ">Done<" not in html and "Delete token" not in html

    as_owner.post(url("edit", secret), {"nickname": "Our server"})
    assert Token.objects.get(pk=secret.pk).nickname == "Our server"


@pytest.mark.check("S06")
def test_reveal_asks_for_the_password_again(as_owner: Client, secret: Token) -> None:
    """S06: a secret is shown only after fresh password entry."""
    response = as_owner.post(url("reveal", secret))
    assert response.status_code == 302
    assert response.headers["Location"].startswith("/account/reauthenticate/?next=")

    response = as_owner.post(url("reveal", secret), headers=HTMX)
    assert response.headers["HX-Redirect"].startswith("/account/reauthenticate/?next=")
    assert not AuditEvent.objects.filter(action="token.secret_revealed").exists()


@pytest.mark.check("S06")
@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_reveal_is_shown_once_uncached_and_audited(
    as_owner: Client, owner: User, secret: Token, headers: dict[str, str]
) -> None:
    """S06: no-store, hides itself, each reveal is audited; the next page shows nothing."""
    trusted(as_owner)
    value = lifecycle.reveal_secret(token=secret, by=None, now=database_now(), address="")

    response = as_owner.post(url("reveal", secret), headers=headers)

    html = response.content.decode()
    assert value in html and 'data-hide-after="30"' in html
    assert "no-store" in response.headers["Cache-Control"]
    if not headers:
        assert response.headers["Refresh"] == f"30; url={url('edit', secret)}"
    assert AuditEvent.objects.filter(action="token.secret_revealed", user=owner).count() == 1
    assert value not in page(as_owner, url("edit", secret))


def test_reveal_knows_only_the_secret_token(as_owner: Client, token: Token) -> None:
    trusted(as_owner)

    assert as_owner.post(url("reveal", token)).status_code == 404


def test_secret_that_cannot_be_decrypted_is_explained(as_owner: Client, secret: Token) -> None:
    trusted(as_owner)
    secret.secrets.update(ciphertext=b"\x01damaged")

    response = as_owner.post(url("reveal", secret), follow=True)

    assert "The secret cannot be decrypted" in response.content.decode()


def test_no_page_holds_the_secret_value(as_owner: Client, secret: Token, token: Token) -> None:
    """S06: secrets never stand in a page."""
    value = lifecycle.reveal_secret(token=secret, by=None, now=database_now(), address="")

    for address in (LIST, url("edit", secret), url("edit", token), url("row", secret), url("state", secret)):
        assert value not in page(as_owner, address)


# --- who may ------------------------------------------------------------------------------------

PAGES = ["edit", "row", "state", "datasets"]
ACTIONS = ["undo", "apply_now", "fix", "disable", "enable", "delete", "restore", "reveal", "rotate",
           "duplicate", "signing_secret"]  # fmt: skip


def unchanged(token: Token) -> tuple[Any, ...]:
    fresh = Token.objects.get(pk=token.pk)
    return (fresh.nickname, fresh.disabled_at, fresh.deleted_at, fresh.expires_at, fresh.revisions.count())


@pytest.mark.check("S13")
@pytest.mark.parametrize("name", PAGES + ACTIONS)
def test_outsider_gets_the_same_404_as_for_no_token(as_outsider: Client, token: Token, name: str) -> None:
    """S13, S16: another workspace's token and one that does not exist are the same answer."""
    before = unchanged(token)
    unknown = Token(public_id="tok_00000000")
    ask = as_outsider.get if name in PAGES else as_outsider.post
    trusted(as_outsider)

    theirs, nobodys = ask(url(name, token)), ask(url(name, unknown))

    assert theirs.status_code == nobodys.status_code == 404
    assert without_ids(theirs, token) == without_ids(nobodys, unknown)
    assert as_outsider.post(url("edit", token), {"nickname": "Mine"}).status_code == 404
    assert unchanged(token) == before


def without_ids(response: Any, token: Token) -> str:
    html = response.content.decode().replace(token.public_id, "ID")
    return re.sub(r'name="csrfmiddlewaretoken" value="[^"]+"', "", html)


def test_outsider_does_not_see_the_tokens_in_the_list(as_outsider: Client, token: Token) -> None:
    html = page(as_outsider, f"{LIST}?q={token.value}")

    assert token.public_id not in html and "Customer XYZ" not in html


def test_teammate_sees_the_form_read_only(as_teammate: Client, token: Token, secret: Token) -> None:
    html = page(as_teammate, url("edit", token))
    assert "Only admins can change them" in html
    assert ">Done<" not in html and "Danger zone" not in html and 'popovertarget="picker"' not in html
    assert token.value in html

    html = page(as_teammate, url("edit", secret))
    assert "Reveal" not in html and "Save nickname" not in html
    assert "Create new token" not in page(as_teammate, LIST)


@pytest.mark.parametrize("name", ["edit", *ACTIONS])
def test_teammate_cannot_change_a_token(as_teammate: Client, token: Token, secret: Token, name: str) -> None:
    lifecycle.save_settings(
        token=token, changes=Settings(core_credit_limit=5), by=None, now=database_now(), based_on=None
    )
    before = unchanged(token)
    trusted(as_teammate)

    response = as_teammate.post(url(name, secret if name == "reveal" else token), {"nickname": "Mine"})

    assert response.status_code == 403
    assert unchanged(token) == before
    assert token.versions(now=database_now()).pending
    assert as_teammate.post("/tokens/new/").status_code == 403
    assert as_teammate.get("/tokens/new/").status_code == 403


@pytest.mark.parametrize("name", PAGES + ACTIONS)
def test_signed_out_people_are_led_to_sign_in(client: Client, token: Token, name: str) -> None:
    ask = client.get if name in PAGES else client.post

    response = ask(url(name, token))

    assert response.status_code == 302 and response.headers["Location"].startswith("/account/login/")


@pytest.mark.check("S46")
@pytest.mark.parametrize("name", ["undo", "apply_now", "fix", "disable", "enable", "restore", "reveal"])
def test_get_changes_nothing(as_owner: Client, token: Token, name: str) -> None:
    """S46: no state change by GET."""
    assert as_owner.get(url(name, token)).status_code == 405


@pytest.mark.check("S46")
def test_every_change_needs_the_csrf_token(owner: User, token: Token) -> None:
    """S46: a POST from another site is refused."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)

    for name in ("edit", *ACTIONS):
        assert client.post(url(name, token)).status_code == 403
    assert client.post("/tokens/new/").status_code == 403
    assert Token.objects.count() == 1


@pytest.mark.check("S42")
def test_hostile_nickname_stays_text(as_owner: Client, token: Token) -> None:
    """S42: no script comes in by a name."""
    hostile = "<img src=x onerror=alert(1)>\"'"
    as_owner.post(url("edit", token), form_data(as_owner, token, nickname=hostile))

    for address in (LIST, url("edit", token), url("delete", token), url("row", token)):
        html = page(as_owner, address)
        assert "<img src=x" not in html and "&lt;img" in html


def test_trash_keeps_a_token_for_30_days(as_owner: Client, token: Token) -> None:
    lifecycle.delete_token(token=token, by=None, now=database_now() - timedelta(days=31))

    assert f'id="{token.public_id}"' not in page(as_owner, f"{LIST}?kind=trash")
    assert "at most 30 days ago" in as_owner.post(url("restore", token), follow=True).content.decode()
