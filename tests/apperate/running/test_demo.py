"""`manage.py demo` makes a whole workspace, says how to use it, and is safe beside a running server."""

import json
import stat
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db.models import Sum
from django.test import Client

from apperate.accounts.models import AuditEvent, Membership, Role, User, Workspace
from apperate.database.clock import database_now, month_of
from apperate.demo import making
from apperate.demo import tokens as demo_tokens
from datasets.models import Dataset
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, MembershipFactory, TokenFactory, WorkspaceFactory
from tokens.alerts.telling import raise_alerts
from tokens.models import CreditWindow, Status, Token, TokenRefusal, UsageCounter
from tokens.rules import domains

KEYS = (
    "url", "workspace", "email", "password", "admin_email", "admin_password", "secret_token",
    "publishable_token", "datasets", "core_datasets", "tokens_url", "admin_url", "api_base",
)  # fmt: skip


@pytest.fixture(autouse=True)
def data_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    settings.INGEST_DIR = tmp_path / "ingest"
    return tmp_path


def run(*options: str) -> dict[str, Any]:
    said = StringIO()
    call_command("demo", "--json", *options, stdout=said)
    return dict(json.loads(said.getvalue()))


def token_states() -> dict[str, str]:
    now = database_now()
    return {str(token): token.status(now=now) for token in Token.objects.filter(workspace__name="DEMO")}


@pytest.mark.django_db
def test_demo_prints_every_fact_as_one_json_object() -> None:
    document = run()

    assert tuple(document) == KEYS
    assert document["workspace"] == "DEMO"
    assert document["datasets"] == ["STOCKS", "WEATHER", "CARS"]
    assert document["core_datasets"] == ["HISTORICAL_PRICES"]
    assert document["api_base"] == document["url"] + "/v1"
    assert document["secret_token"].startswith("sk_")
    assert document["publishable_token"].startswith("pk_")


@pytest.mark.django_db
def test_repeating_the_demo_changes_nothing_and_prints_the_same() -> None:
    first = run()
    ids = set(Token.objects.values_list("pk", flat=True)), set(Dataset.objects.values_list("pk", flat=True))
    used = UsageCounter.objects.count()

    second = run()

    assert second == first
    assert ids == (
        set(Token.objects.values_list("pk", flat=True)),
        set(Dataset.objects.values_list("pk", flat=True)),
    )
    assert UsageCounter.objects.count() == used


@pytest.mark.django_db
def test_passwords_open_the_dashboard_and_the_admin_and_are_put_back() -> None:
    document = run()
    user = User.objects.get(email=document["email"])
    user.set_password("changed by a visitor")
    user.save()

    document = run()

    assert Client().login(email=document["email"], password=document["password"])
    assert Client().login(email=document["admin_email"], password=document["admin_password"])
    assert User.objects.get(email=document["admin_email"]).is_superuser
    assert not User.objects.get(email=document["email"]).is_staff


@pytest.mark.django_db
def test_passwords_are_kept_in_a_file_for_its_owner_alone(data_dir: Path) -> None:
    document = run()

    path = data_dir / "demo.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert document["password"] in path.read_text()
    assert document["secret_token"] not in path.read_text()


@pytest.mark.django_db
def test_six_tokens_are_in_different_states() -> None:
    run()

    states = token_states()

    assert len(states) == 6
    assert states[demo_tokens.PUBLIC] == Status.ACTIVE
    assert states[demo_tokens.SCHEDULED] == Status.PENDING
    assert states[demo_tokens.DISABLED] == Status.DISABLED
    websites = Token.objects.get(nickname="Customer websites").versions(now=database_now()).in_force
    assert websites is not None and "www.example.com" in websites.allowed_domains


@pytest.mark.django_db
def test_usage_is_marked_as_demo_and_adds_up_to_what_was_spent() -> None:
    run()
    now = database_now()
    near = Token.objects.get(nickname=demo_tokens.NEAR_LIMIT)

    window = CreditWindow.objects.get(token=near, month=month_of(now).date())

    assert 0.95 * demo_tokens.LIMIT < window.used < demo_tokens.LIMIT
    assert not UsageCounter.objects.filter(is_demo=False).exists()
    assert not UsageCounter.objects.filter(minute__gt=now).exists()
    for one in CreditWindow.objects.filter(month=month_of(now).date()):
        rows = UsageCounter.objects.filter(token_id=one.token_id, minute__gte=month_of(now))
        assert rows.aggregate(total=Sum("core_credits"))["total"] == one.used
    assert raise_alerts(now=now) == []  # Nobody gets a message about usage that is made up.


@pytest.mark.django_db
def test_what_was_refused_is_told_as_often_as_it_was_counted() -> None:
    run()

    for nickname, code in (
        ("Customer websites", "domain-not-allowed"),
        (demo_tokens.SCHEDULED, "dataset-not-granted"),
    ):
        token = Token.objects.get(nickname=nickname)
        counted = UsageCounter.objects.filter(token_id=token.pk, outcome=code).aggregate(all=Sum("calls"))
        told = TokenRefusal.objects.filter(token_id=token.pk, code=code).aggregate(all=Sum("calls"))
        assert told["all"] and counted["all"] - 1 <= told["all"] <= counted["all"]
    websites = Token.objects.get(nickname="Customer websites").versions(now=database_now()).in_force
    assert websites is not None
    rules = domains.load(websites.allowed_domains)
    for row in TokenRefusal.objects.filter(code__in=["domain-not-allowed", "ok"]):
        found = domains.match(rules, referer=None, origin=f"https://{row.site}")
        assert found.allowed is (row.code == "ok"), row.site


@pytest.mark.django_db
@pytest.mark.parametrize("moment", ["2026-03-01T00:10:00", "2026-03-01T05:00:00", "2026-02-28T23:59:59"])
def test_a_month_that_has_just_begun_has_its_limit_nearly_spent_too(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    monkeypatch.setattr(making, "database_now", lambda: now)

    run()

    near = Token.objects.get(nickname=demo_tokens.NEAR_LIMIT)
    assert near.credit_windows.get(month=month_of(now).date()).used == 48_640


@pytest.mark.django_db(transaction=True)
def test_printed_tokens_work_at_once(api: DataPlaneClient) -> None:
    document = run()

    for name in document["datasets"]:
        reply = api.get(f"/v1/data/DEMO/{name}?last=3&token={document['publishable_token']}")
        assert (reply.status, len(reply.json())) == (200, 3)
    for path in ("CORE/HISTORICAL_PRICES/MSFT", "PREMIUM/MONTHLY_RETURNS/MSFT"):
        reply = api.get(f"/v1/data/{path}?token={document['publishable_token']}")
        assert (reply.status, len(reply.json())) == (200, 1)
    written = api.post(
        f"/v1/record/DEMO/CARS?token={document['secret_token']}",
        {"Name": "new", "Weight_in_lbs": 1, "Year": "1983-01-01"},
    )
    assert written.status == 200, written.body


@pytest.mark.django_db(transaction=True)
def test_reset_ends_the_old_tokens_on_a_running_server(api: DataPlaneClient) -> None:
    """A worker that knows a token of the demo refuses it once the reset is heard of, within a second."""
    old = run()
    url = f"/v1/data/DEMO/STOCKS?token={old['publishable_token']}"
    assert api.get(url).status == 200

    new = run("--reset")

    from apperate.database.changes import changes

    api.run(changes.poll())
    assert api.get(url).status == 403
    assert new["publishable_token"] != old["publishable_token"]
    assert new["password"] == old["password"]
    assert api.get(f"/v1/data/DEMO/STOCKS?token={new['publishable_token']}").status == 200


@pytest.mark.django_db
def test_reset_removes_only_what_is_the_demos() -> None:
    run()
    demo, core = Workspace.objects.get(name="DEMO"), Workspace.objects.get(name="CORE")
    DatasetFactory(workspace=demo, name="MINE")
    TokenFactory(workspace=demo, nickname="Mine")
    MembershipFactory(workspace=demo)
    kept = DatasetFactory(workspace=core, name="OTHER_PRICES")
    other = DatasetFactory()
    token = TokenFactory(workspace=other.workspace)
    used = UsageCounter.objects.create(
        token_id=token.pk, operation="read", outcome="ok", minute=database_now(), calls=1
    )

    run("--reset")

    assert set(demo.datasets.values_list("name", flat=True)) == {"STOCKS", "WEATHER", "CARS"}
    assert len(token_states()) == 6
    assert set(demo.memberships.values_list("user__email", flat=True)) == set(making.ROLES)
    assert Dataset.objects.filter(pk__in=[kept.pk, other.pk]).count() == 2
    assert Token.objects.filter(pk=token.pk).exists()
    assert UsageCounter.objects.filter(pk=used.pk).exists()
    assert AuditEvent.objects.filter(workspace=demo, action="demo.reset").count() == 1


@pytest.mark.django_db
def test_a_core_dataset_that_is_not_the_demos_is_left_alone() -> None:
    core = WorkspaceFactory(name="CORE", is_system=True)
    own = DatasetFactory(workspace=core, name="HISTORICAL_PRICES", credits_per_record=3)

    run("--reset")

    own.refresh_from_db()
    assert own.credits_per_record == 3


@pytest.mark.django_db
def test_what_a_visitor_broke_is_made_again() -> None:
    first = run()
    Token.objects.filter(nickname=demo_tokens.PUBLIC).update(disabled_at=database_now())
    Token.objects.filter(kind="secret").update(disabled_at=database_now())
    Membership.objects.filter(user__email=making.TEAMMATE).delete()

    second = run()

    assert second["publishable_token"] != first["publishable_token"]
    assert second["secret_token"] == first["secret_token"]
    assert Token.objects.get(kind="secret").disabled_at is None
    assert Membership.objects.get(user__email=making.TEAMMATE).role == Role.USER


@pytest.mark.django_db
def test_somebody_elses_workspace_of_that_name_is_refused_and_left_alone() -> None:
    MembershipFactory(workspace=WorkspaceFactory(name="DEMO", title="Mine"), role=Role.PRIMARY)

    with pytest.raises(CommandError, match="not the demo's"):
        run("--reset")

    assert Workspace.objects.get(name="DEMO").title == "Mine"
    assert not User.objects.filter(email=making.OWNER).exists()


@pytest.mark.django_db
def test_without_json_the_facts_are_readable() -> None:
    said = StringIO()

    call_command("demo", stdout=said)

    assert "sign in as   owner@demo.example with " in said.getvalue()
    assert "curl 'http" in said.getvalue()
