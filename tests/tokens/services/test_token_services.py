"""What each change of a token does to its versions, and what it refuses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apperate.accounts.models import AuditEvent, User, Workspace
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.models import Revision, Status, Token
from tokens.rules import domains, token_format
from tokens.rules.permissions import Action, Settings
from tokens.services import lifecycle
from tokens.services.lifecycle import Edit, Saved, SettingsInput

NOW = datetime.fromisoformat("2026-11-23T14:05:32+00:00")
SECOND = timedelta(seconds=1)
DELAY = timedelta(seconds=django_settings.ACTIVATION_SECONDS)


@pytest.fixture
def token(workspace: Workspace, owner: User) -> Token:
    """A publishable token that is in force with the default settings."""
    created = lifecycle.create_publishable_token(
        workspace=workspace, by=owner, now=NOW - timedelta(days=1), active_at_once=True
    )
    assert isinstance(created, Token)
    return created


def save(token: Token, settings: SettingsInput, *, now: datetime = NOW, based_on: int | None = None) -> Saved:
    outcome = lifecycle.save_settings(token=token, changes=settings, by=None, now=now, based_on=based_on)
    assert isinstance(outcome, Saved), outcome
    return outcome


def refused(outcome: object, code: str = "invalid-values") -> Refusal:
    assert isinstance(outcome, Refusal), outcome
    assert outcome.code == code
    return outcome


def actions() -> list[str]:
    return list(AuditEvent.objects.order_by("pk").values_list("action", flat=True))


# --- creating -----------------------------------------------------------------------------------


@pytest.mark.check("S01")
def test_secret_token_is_sealed_and_in_force_at_once(workspace: Workspace, owner: User) -> None:
    """S01: no secret value is at rest in clear."""
    token = lifecycle.create_secret_token(workspace=workspace, by=owner, now=NOW)

    secret = token.secrets.get()
    value = lifecycle.reveal_secret(token=token, by=owner, now=NOW, address="192.0.2.7")
    assert token.status(now=NOW) == Status.ACTIVE
    assert secret.clear is None and value.encode() not in bytes(secret.ciphertext)
    assert bytes(secret.digest) == token_format.digest(value)
    assert token_format.parse(value).kind == "secret"


def test_reveal_is_audited_with_the_address_and_without_the_value(workspace: Workspace, owner: User) -> None:
    token = lifecycle.create_secret_token(workspace=workspace, by=owner, now=NOW)

    value = lifecycle.reveal_secret(token=token, by=owner, now=NOW, address="192.0.2.7")

    event = AuditEvent.objects.get(action="token.secret_revealed")
    assert (event.user, event.address, event.target) == (owner, "192.0.2.7", token.public_id)
    assert value not in str(AuditEvent.objects.values())


def test_publishable_token_reads_core_from_any_domain_after_the_delay(
    workspace: Workspace, owner: User
) -> None:
    token = lifecycle.create_publishable_token(
        workspace=workspace, by=owner, now=NOW, nickname="Customer XYZ"
    )

    assert isinstance(token, Token)
    settings, number = lifecycle.saved(token, now=NOW)
    assert (settings, number) == (Settings(), 1)
    assert token.status(now=NOW + DELAY - SECOND) == Status.ACTIVATING
    assert token.status(now=NOW + DELAY) == Status.ACTIVE
    assert token.value.startswith("pk_") and token_format.parse(token.value)
    assert (token.created_by, token.created_at, token.nickname) == (owner, NOW, "Customer XYZ")


def test_imported_value_keeps_working_without_a_checksum(workspace: Workspace) -> None:
    old_value = "pk_" + "0123456789abcdef" * 2

    token = lifecycle.create_publishable_token(workspace=workspace, by=None, now=NOW, import_value=old_value)

    assert isinstance(token, Token)
    assert token.value == old_value
    assert token.secrets.get().is_imported


@pytest.mark.parametrize(
    "value",
    ["", "hello", "sk_" + "0123456789abcdef" * 2, "pk_" + "0" * 31, "pk_" + "G" * 32, "pk_" + "0" * 40],
    ids=["blank", "word", "secret", "short", "not hex", "wrong checksum"],
)
def test_import_refuses_what_is_no_publishable_value(workspace: Workspace, value: str) -> None:
    refused(lifecycle.create_publishable_token(workspace=workspace, by=None, now=NOW, import_value=value))

    assert not workspace.tokens.exists()


def test_import_refuses_a_value_twice_without_naming_its_owner(workspace: Workspace) -> None:
    value = "pk_" + "0123456789abcdef" * 2
    other = WorkspaceFactory(name="NORTHWIND")
    lifecycle.create_publishable_token(workspace=other, by=None, now=NOW, import_value=value)

    refusal = refused(
        lifecycle.create_publishable_token(workspace=workspace, by=None, now=NOW, import_value=value)
    )

    assert "NORTHWIND" not in str(refusal) and value not in str(refusal)


def test_plan_limit_counts_the_secret_token_and_imports_not_the_trash(workspace: Workspace) -> None:
    workspace.plan = "launch"
    workspace.save(update_fields=["plan"])
    lifecycle.create_secret_token(workspace=workspace, by=None, now=NOW)
    imported = lifecycle.create_publishable_token(
        workspace=workspace, by=None, now=NOW, import_value="pk_" + "ab" * 16
    )

    refusal = refused(
        lifecycle.create_publishable_token(workspace=workspace, by=None, now=NOW), "plan-required"
    )
    assert (
        "Launch plan" in refusal.detail
        and "2 tokens" in refusal.detail
        and "Delete a token" in refusal.detail
    )

    lifecycle.delete_token(token=imported, by=None, now=NOW)
    assert isinstance(lifecycle.create_publishable_token(workspace=workspace, by=None, now=NOW), Token)
    refused(lifecycle.restore_token(token=imported, by=None, now=NOW), "plan-required")


# --- saving settings ----------------------------------------------------------------------------


def test_saved_version_takes_effect_at_its_time_and_not_before(token: Token) -> None:
    save(token, Settings(core_data_access=False))

    before, after = token.versions(now=NOW + DELAY - SECOND), token.versions(now=NOW + DELAY)
    assert (before.in_force.number, before.pending.number) == (1, 2)
    assert (after.in_force.number, after.pending) == (2, None)
    assert token.status(now=NOW + DELAY - SECOND) == Status.PENDING
    assert token.status(now=NOW + DELAY) == Status.ACTIVE


def test_saving_again_supersedes_the_pending_version_and_starts_the_delay_anew(token: Token) -> None:
    save(token, Settings(core_data_access=False))
    later = NOW + 60 * SECOND

    outcome = save(token, Settings(core_credit_limit=5), now=later)

    assert outcome.revision.effective_at == later + DELAY
    assert token.revisions.get(number=2).withdrawal == Revision.Withdrawal.SUPERSEDED
    at_first_time = token.versions(now=NOW + DELAY)
    assert (at_first_time.in_force.number, at_first_time.pending.number) == (1, 3)
    assert token.versions(now=later + DELAY).in_force.number == 3


def test_unchanged_settings_save_nothing(token: Token) -> None:
    first = save(token, Settings(core_credit_limit=5))
    audited = actions()

    again = save(token, Settings(core_credit_limit=5), now=NOW + SECOND)

    assert (first.revision.number, again.revision) == (2, None)
    assert token.versions(now=NOW + SECOND).pending.effective_at == NOW + DELAY
    assert actions() == audited


def test_at_most_three_versions_stay_live(token: Token) -> None:
    for number in range(6):
        save(token, Settings(core_credit_limit=number), now=NOW + number * 2 * DELAY)

    assert [r.number for r in token.revisions.live()] == [7, 6]


def test_everything_the_form_sets_is_read_back(token: Token, workspace: Workspace) -> None:
    dataset = DatasetFactory(workspace=workspace)
    rules, _ = domains.parse_rules("app.example.com *.example.org")
    wanted = Settings(
        signed_requests=True,
        core_data_access=False,
        grants={dataset.pk: frozenset({Action.READ, Action.DELETE})},
        all_datasets=frozenset({Action.READ}),
        allowed_domains=rules,
        core_credit_limit=500_000,
        requests_per_second=20,
        burst=40,
    )

    save(token, wanted)

    assert lifecycle.saved(token, now=NOW)[0] == wanted


@pytest.mark.check("S07")
@pytest.mark.parametrize("change", ["save", "apply_now", "undo_pending"])
def test_change_of_versions_writes_the_token_row(token: Token, change: str) -> None:
    """S07: workers learn of a change by the stamp on the token row, so each change must write it."""
    save(token, Settings(core_credit_limit=5))

    with CaptureQueriesContext(connection) as queries:
        if change == "save":
            save(token, Settings(core_credit_limit=6))
        else:
            getattr(lifecycle, change)(token=token, by=None, now=NOW)

    assert any(query["sql"].startswith('UPDATE "tokens_token"') for query in queries)


@pytest.mark.parametrize(
    ("plan", "is_legacy", "allowed"),
    [
        ("launch", True, False),
        ("grow", False, False),
        ("grow", True, True),
        ("scale", True, True),
        ("business", False, True),
    ],
)
def test_signing_may_be_switched_on_only_where_the_plan_has_it(
    token: Token, workspace: Workspace, plan: str, is_legacy: bool, allowed: bool
) -> None:
    Workspace.objects.filter(pk=workspace.pk).update(plan=plan, is_legacy=is_legacy)

    outcome = lifecycle.save_settings(
        token=token, changes=Settings(signed_requests=True), by=None, now=NOW, based_on=None
    )

    assert isinstance(outcome, Saved) is allowed
    if not allowed:
        assert refused(outcome, "plan-required").check == "signature"


def test_signing_stays_required_after_a_downgrade(token: Token, workspace: Workspace) -> None:
    save(token, Settings(signed_requests=True))
    Workspace.objects.filter(pk=workspace.pk).update(plan="launch")

    kept = save(token, Settings(signed_requests=True, core_credit_limit=9), now=NOW + DELAY)

    assert kept.revision.signed_requests


def test_premium_needs_a_subscription_to_be_switched_on(token: Token, workspace: Workspace) -> None:
    wanted = Settings(premium_data_access=True)
    outcome = lifecycle.save_settings(token=token, changes=wanted, by=None, now=NOW, based_on=None)
    assert "no Premium subscription" in refused(outcome, "plan-required").detail

    Workspace.objects.filter(pk=workspace.pk).update(has_premium=True)
    assert save(token, wanted).revision.premium_data_access


@pytest.mark.check("S13")
def test_grants_on_datasets_of_another_workspace_are_refused(token: Token) -> None:
    """S13, S15: an id of another workspace's dataset gives no access, and no hint that it exists."""
    foreign = DatasetFactory()

    def grant(dataset_id: int) -> Refusal:
        wanted = Settings(grants={dataset_id: frozenset({Action.READ})})
        return refused(lifecycle.save_settings(token=token, changes=wanted, by=None, now=NOW, based_on=None))

    assert grant(foreign.pk).detail == grant(987_654).detail
    assert token.versions(now=NOW).pending is None


@pytest.mark.parametrize("limit", [-1, 2**63])
def test_limit_that_does_not_fit_is_refused(token: Token, limit: int) -> None:
    wanted = Settings(core_credit_limit=limit)

    refused(lifecycle.save_settings(token=token, changes=wanted, by=None, now=NOW, based_on=None))


def test_second_editor_is_told_what_the_first_changed(token: Token, owner: User) -> None:
    lifecycle.save_settings(token=token, changes=Settings(core_credit_limit=5), by=owner, now=NOW, based_on=1)

    late = lifecycle.save_settings(
        token=token, changes=Settings(core_data_access=False), by=None, now=NOW + SECOND, based_on=1
    )

    refusal = refused(late)
    assert "Core Credit Usage Limit is now 5 credits a month (was no limit)" in refusal.detail
    assert str(owner) in refusal.detail and "14:05:32 UTC" in refusal.detail
    assert lifecycle.saved(token, now=NOW)[0] == Settings(core_credit_limit=5)


def test_edit_based_on_a_version_that_was_undone_is_refused(token: Token) -> None:
    save(token, Settings(core_credit_limit=5))
    lifecycle.undo_pending(token=token, by=None, now=NOW)

    outcome = lifecycle.save_settings(
        token=token, changes=Settings(core_credit_limit=6), by=None, now=NOW, based_on=2
    )

    assert "Core Credit Usage Limit is now no limit" in refused(outcome).detail


def test_form_saves_all_or_nothing(token: Token) -> None:
    outcome = lifecycle.edit_token(
        token=token,
        settings=Settings(premium_data_access=True),
        nickname=Edit("", "Customer XYZ"),
        expires_at=None,
        by=None,
        now=NOW,
        based_on=1,
    )

    refused(outcome, "plan-required")
    assert Token.objects.get(pk=token.pk).nickname == ""


def test_nickname_that_another_changed_meanwhile_is_not_overwritten(token: Token) -> None:
    lifecycle.set_nickname(token=token, nickname="Theirs", by=None, now=NOW)

    outcome = lifecycle.edit_token(
        token=token, settings=Settings(), nickname=Edit("", "Mine"), expires_at=None,
        by=None, now=NOW, based_on=1,
    )  # fmt: skip

    assert "Nickname was changed meanwhile and is now “Theirs”" in refused(outcome).detail


# --- the clock of activation --------------------------------------------------------------------


def test_undo_leaves_the_version_in_force_alone(token: Token) -> None:
    save(token, Settings(core_data_access=False))

    lifecycle.undo_pending(token=token, by=None, now=NOW + SECOND)

    for moment in (NOW + SECOND, NOW + DELAY, NOW + 2 * DELAY):
        versions = token.versions(now=moment)
        assert (versions.in_force.number, versions.pending) == (1, None)
    assert token.revisions.get(number=2).withdrawal == Revision.Withdrawal.UNDONE


def test_apply_now_puts_the_pending_version_in_force(token: Token) -> None:
    save(token, Settings(core_data_access=False))

    lifecycle.apply_now(token=token, by=None, now=NOW + SECOND)

    versions = token.versions(now=NOW + SECOND)
    assert (versions.in_force.number, versions.pending) == (2, None)


def test_apply_now_activates_a_new_token(workspace: Workspace) -> None:
    token = lifecycle.create_publishable_token(workspace=workspace, by=None, now=NOW)

    lifecycle.apply_now(token=token, by=None, now=NOW + SECOND)

    assert token.status(now=NOW + SECOND) == Status.ACTIVE


@pytest.mark.parametrize("service", [lifecycle.undo_pending, lifecycle.apply_now], ids=["undo", "apply"])
def test_nothing_pending_is_refused(token: Token, service: object) -> None:
    refused(service(token=token, by=None, now=NOW))  # type: ignore[operator]


def test_new_token_has_nothing_to_undo_to(workspace: Workspace) -> None:
    token = lifecycle.create_publishable_token(workspace=workspace, by=None, now=NOW)

    refused(lifecycle.undo_pending(token=token, by=None, now=NOW))

    assert token.status(now=NOW + DELAY) == Status.ACTIVE


def test_undo_after_the_time_has_come_is_refused(token: Token) -> None:
    save(token, Settings(core_data_access=False))

    refused(lifecycle.undo_pending(token=token, by=None, now=NOW + DELAY))


# --- what takes effect at once ------------------------------------------------------------------


def test_immediate_changes_do_not_stop_a_pending_clock(token: Token) -> None:
    save(token, Settings(core_data_access=False))

    lifecycle.disable(token=token, by=None, now=NOW + SECOND)
    lifecycle.set_nickname(token=token, nickname="Customer XYZ", by=None, now=NOW + SECOND)
    lifecycle.set_expiry(token=token, expires_at=NOW + 9 * DELAY, by=None, now=NOW + SECOND)

    token = Token.objects.get(pk=token.pk)
    assert token.versions(now=NOW + DELAY).in_force.number == 2
    assert token.status(now=NOW + SECOND) == Status.DISABLED
    lifecycle.enable(token=token, by=None, now=NOW + 2 * SECOND)
    token = Token.objects.get(pk=token.pk)
    assert token.status(now=NOW + 9 * DELAY - SECOND) == Status.ACTIVE
    assert token.status(now=NOW + 9 * DELAY) == Status.EXPIRED


def test_delete_and_restore_keep_the_token_as_it_was(token: Token) -> None:
    lifecycle.delete_token(token=token, by=None, now=NOW)
    assert Token.objects.get(pk=token.pk).status(now=NOW) == Status.DELETED

    restored = lifecycle.restore_token(token=token, by=None, now=NOW + timedelta(days=30))

    assert isinstance(restored, Token)
    assert Token.objects.get(pk=token.pk).status(now=NOW) == Status.ACTIVE


def test_restore_after_30_days_is_refused(token: Token) -> None:
    lifecycle.delete_token(token=token, by=None, now=NOW)

    outcome = lifecycle.restore_token(token=token, by=None, now=NOW + timedelta(days=30) + SECOND)

    assert "30 days" in refused(outcome).detail


def test_deleted_token_cannot_be_edited(token: Token) -> None:
    lifecycle.delete_token(token=token, by=None, now=NOW)

    refused(lifecycle.save_settings(token=token, changes=Settings(), by=None, now=NOW, based_on=None))


def test_secret_token_is_never_deleted_and_has_no_settings(workspace: Workspace) -> None:
    token = lifecycle.create_secret_token(workspace=workspace, by=None, now=NOW)

    refused(lifecycle.delete_token(token=token, by=None, now=NOW))
    refused(lifecycle.save_settings(token=token, changes=Settings(), by=None, now=NOW, based_on=None))


@pytest.mark.check("S54")
def test_each_change_leaves_one_audit_row(token: Token, owner: User) -> None:
    """S54: each action writes exactly one row, in the same transaction."""
    earlier = actions()
    common = {"token": token, "by": owner, "now": NOW, "address": "192.0.2.7"}

    lifecycle.set_nickname(nickname="Customer XYZ", **common)
    lifecycle.set_nickname(nickname="Customer XYZ", **common)
    lifecycle.save_settings(changes=Settings(core_credit_limit=5), based_on=None, **common)
    lifecycle.undo_pending(**common)
    lifecycle.save_settings(changes=Settings(core_credit_limit=6), based_on=None, **common)
    lifecycle.apply_now(**common)
    lifecycle.disable(**common)
    lifecycle.disable(**common)
    lifecycle.enable(**common)
    lifecycle.delete_token(**common)
    lifecycle.restore_token(**common)

    assert actions()[len(earlier) :] == [
        "token.renamed", "token.settings_saved", "token.change_undone", "token.settings_saved",
        "token.change_applied", "token.disabled", "token.enabled", "token.deleted", "token.restored",
    ]  # fmt: skip
    mine = AuditEvent.objects.filter(at=NOW, address="192.0.2.7")
    assert mine.count() == len(actions()) - len(earlier)
    assert set(mine.values_list("user", "address", "target")) == {(owner.pk, "192.0.2.7", token.public_id)}
    saved = AuditEvent.objects.filter(action="token.settings_saved").first()
    assert saved.before == {"core_credit_limit": "no limit"}
    assert saved.after["core_credit_limit"] == "5 credits a month"


def test_nothing_is_written_by_a_refused_change(token: Token) -> None:
    TokenFactory(workspace=token.workspace)
    audited = actions()

    lifecycle.save_settings(
        token=token, changes=Settings(premium_data_access=True), by=None, now=database_now(), based_on=None
    )

    assert actions() == audited
    assert token.revisions.count() == 1


# --- two at once --------------------------------------------------------------------------------


def at_once(*works: Callable[[], object]) -> list[object]:
    """Run these at the same time, each on a connection of its own, and return what they answered."""
    start = Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        start.wait()
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


@pytest.mark.django_db(transaction=True)
def test_people_who_create_at_once_do_not_pass_the_plan_together(transactional_db: None) -> None:
    workspace = WorkspaceFactory(plan="launch")
    lifecycle.create_secret_token(workspace=workspace, by=None, now=NOW)

    answers = at_once(
        *[lambda: lifecycle.create_publishable_token(workspace=workspace, by=None, now=NOW)] * 5
    )

    assert sum(isinstance(answer, Token) for answer in answers) == 1
    assert workspace.tokens.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_editors_who_save_at_once_one_is_told(transactional_db: None) -> None:
    token = TokenFactory()

    def saver(limit: int) -> Callable[[], object]:
        wanted = Settings(core_credit_limit=limit)
        return lambda: lifecycle.save_settings(token=token, changes=wanted, by=None, now=NOW, based_on=1)

    answers = at_once(*[saver(limit) for limit in range(4)])

    assert sum(isinstance(answer, Saved) for answer in answers) == 1
    assert [revision.number for revision in token.revisions.live()] == [2, 1]
