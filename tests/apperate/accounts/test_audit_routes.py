"""Every address that changes something leaves a row in the audit log, or says here why it need not.

Adding an address without a row in these tables fails, and so does an action that no address or command
writes. That each address writes what its row says is tested where the address is.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal import auth as totp
from django.contrib import admin
from django.test import Client, RequestFactory
from django.urls import get_resolver, reverse

from apperate.accounts.audit import trail
from apperate.accounts.audit.words import ACTIONS
from apperate.accounts.models import AuditEvent, User, Workspace
from tests.apperate.dashboard.test_shell import routes
from tests.conftest import signed_in
from tests.support.factories import PASSWORD
from tests.support.totp_codes import code_of, hold_time

ROOT = Path(__file__).resolve().parents[3]
WORDS = ROOT / "apperate" / "accounts" / "audit" / "words.py"  # It names the actions, and writes none.
NOTHING = "changes nothing that is kept: "
READS = NOTHING + "it only looks"
RECORDS = "records are counted by the usage, and files told by the list of jobs"

# Route → the actions it writes, or the reason why it writes none.
PAGES: dict[str, str | set[str]] = {
    "account/login/": {"sign_in.done", "sign_in.failed"},
    "account/logout/": {"sign_out.done"},
    "account/signup/": NOTHING + "nobody signs up alone",
    "account/inactive/": READS,
    "account/reauthenticate/": {"sign_in.failed"},
    "account/email/": {"email.added", "email.changed", "email.removed"},
    "account/confirm-email/": READS,
    "account/confirm-email/<str:key>/": {"email.added", "email.changed"},
    r"account/^confirm-email/(?P<key>[-:\w]+)/$": {"email.added", "email.changed"},
    "account/password/change/": {"password.changed"},
    "account/password/set/": {"password.changed"},
    "account/password/reset/": NOTHING + "it sends a link",
    "account/password/reset/done/": READS,
    "account/password/reset/key/done/": READS,
    "account/^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$": {"password.changed"},
    "account/login/code/confirm/": {"sign_in.done"},
    "account/sessions/": {"sessions.ended"},
    "account/2fa/": READS,
    "account/2fa/authenticate/": {"sign_in.done", "sign_in.code_failed"},
    "account/2fa/reauthenticate/": {"sign_in.code_failed"},
    "account/2fa/totp/activate/": {"factor.added"},
    "account/2fa/totp/deactivate/": {"factor.removed"},
    "account/2fa/recovery-codes/": READS,
    "account/2fa/recovery-codes/generate/": {"factor.added", "factor.removed"},
    "account/2fa/recovery-codes/download/": READS,
    "theme/": NOTHING + "a cookie",
    "join/<str:token>/": {"member.joined", "sign_in.done"},
    "w/switch/<str:name>/": NOTHING + "the session looks at another workspace",
    "team/invite/": {"member.invited"},
    "team/invitations/<int:pk>/resend/": {"invitation.resent"},
    "team/invitations/<int:pk>/withdraw/": {"invitation.withdrawn"},
    "team/members/<int:pk>/role/": {"member.role_changed"},
    "team/members/<int:pk>/remove/": {"member.removed"},
    "team/audit-log/export.csv": {"audit_log.exported"},
    "team/workspace/security/": {"workspace.changed"},
    "team/workspace/webhook/": {"webhook.saved"},
    "team/workspace/webhook/secret/": {"webhook.secret_renewed"},
    "team/workspace/webhook/remove/": {"webhook.removed"},
    "team/workspace/webhook/test/": {"webhook.tested"},
    "tokens/new/": {"token.created"},
    "tokens/<slug:public_id>/": {"token.settings_saved", "token.renamed", "token.expiry_set"},
    "tokens/<slug:public_id>/datasets/": NOTHING + "the form goes on",
    "tokens/<slug:public_id>/test/": READS,
    "tokens/<slug:public_id>/fix/": {"token.settings_saved"},
    "tokens/<slug:public_id>/undo/": {"token.change_undone"},
    "tokens/<slug:public_id>/apply-now/": {"token.change_applied"},
    "tokens/<slug:public_id>/disable/": {"token.disabled"},
    "tokens/<slug:public_id>/enable/": {"token.enabled"},
    "tokens/<slug:public_id>/delete/": {"token.deleted"},
    "tokens/<slug:public_id>/restore/": {"token.restored"},
    "tokens/<slug:public_id>/reveal/": {"token.secret_revealed"},
    "tokens/<slug:public_id>/rotate/": {"token.rotated"},
    "tokens/<slug:public_id>/duplicate/": {"token.created"},
    "tokens/<slug:public_id>/signing-secret/": {"token.signing_secret_revealed"},
    "start/sample/": {"dataset.create", "job.upload"},
    "start/token/": {"token.created"},
    "datasets/new/": NOTHING + "the file waits for the next page",
    "datasets/new/define/": {"dataset.create"},
    "datasets/new/<str:upload_id>/": {"dataset.create", "job.upload"},
    "datasets/<str:name>/schema/": {"dataset.edit"},
    "datasets/<str:name>/add/": {"job.upload"},
    "datasets/<str:name>/details/": {"dataset.edit"},
    "datasets/<str:name>/rename/": {"dataset.rename"},
    "datasets/<str:name>/delete/": {"dataset.delete"},
    "datasets/<str:name>/restore/": {"dataset.restore"},
    "datasets/<str:name>/deletions/<int:deletion_id>/restore/": {"records.restore"},
    "datasets/<str:name>/erase/": {"dataset.erase"},
    "datasets/<str:name>/deletions/<int:deletion_id>/erase/": {"records.erase"},
    "jobs/<str:job_id>/cancel/": {"job.cancel"},
    "jobs/<str:job_id>/retry/": {"job.retry"},
}
# Method and route of the data plane.
ONE_TOKEN = "tokens/<segment:token_id>"
API: dict[str, str | set[str]] = {
    "POST datasets/<segment:workspace>": {"dataset.create"},
    "POST datasets/<segment:workspace>/<segment:name>": {"dataset.edit"},
    "PATCH datasets/<segment:workspace>/<segment:name>": {"dataset.edit"},
    "DELETE datasets/<segment:workspace>/<segment:name>": {"dataset.delete"},
    "PUT datasets/<segment:workspace>/<segment:name>": RECORDS,
    "PUT datasets/<segment:workspace>/<segment:name>/<segment:key>": {"dataset.rename"},
    "POST data/<segment:workspace>/<segment:name>": RECORDS,
    "POST record/<segment:workspace>/<segment:name>": RECORDS,
    "POST write/<segment:workspace>/<segment:name>": RECORDS,
    "POST jobs/<segment:workspace>/ingest": RECORDS,
    "POST account/messagebudget": {"account.edit"},
    "POST account/payasyougo": {"account.edit"},
    "POST generate-schema/<segment:workspace>": READS,
    "POST tokens": {"token.created"},
    f"PATCH {ONE_TOKEN}": {"token.settings_saved", "token.renamed", "token.expiry_set"},
    f"DELETE {ONE_TOKEN}": {"token.deleted"},
    f"POST {ONE_TOKEN}/apply-now": {"token.change_applied"},
    f"POST {ONE_TOKEN}/undo": {"token.change_undone"},
    f"POST {ONE_TOKEN}/disable": {"token.disabled"},
    f"POST {ONE_TOKEN}/enable": {"token.enabled"},
    f"POST {ONE_TOKEN}/restore": {"token.restored"},
    f"POST {ONE_TOKEN}/duplicate": {"token.created"},
    f"POST {ONE_TOKEN}/rotate": {"token.rotated"},
    f"POST {ONE_TOKEN}/test": READS,
}
# What operators change in their admin, by model.
ADMIN: dict[str, set[str]] = {
    "workspace": {"workspace.created", "workspace.changed"},
    "invitation": {"member.invited", "invitation.withdrawn"},
    "membership": {"member.role_changed", "member.removed"},
    "user": {"person.changed"},
    "dataset": {"dataset.price_set"},
}
# Written by commands, or by services that have no address yet.
ELSEWHERE = {"demo.reset", "usage.exported", "workspace.erased", "workspace.exported"}


def deletes_records(call: str) -> bool:
    return bool(re.match(r"DELETE (datasets|data)/<segment:workspace>/<segment:name>(/|$)", call))


@pytest.mark.check("S54")
def test_every_page_that_takes_a_post_has_a_row(as_owner: Client) -> None:
    for route, _ in routes(get_resolver().url_patterns):
        if route.startswith("operator/") or route in PAGES:
            continue
        path = re.sub(r"<(?:\w+:)?\w+>", "1", route)
        assert as_owner.post("/" + path).status_code == 405, f"{route} takes a POST: give it a row in PAGES"


def test_every_call_of_the_api_that_is_no_read_has_a_row() -> None:
    calls = {
        f"{method} {route}"
        for route, view in routes(get_resolver("datasets.api.urls").url_patterns)
        for method in getattr(view, "views", ())
        if method not in {"GET", "HEAD"}
    }

    missing = {call for call in calls if call not in API and not deletes_records(call)}

    assert len(calls) > 10
    assert not missing, "give each a row in API"


@pytest.mark.django_db
def test_every_model_that_operators_change_has_a_row(owner: User) -> None:
    request = RequestFactory().get("/operator/")
    owner.is_staff = owner.is_superuser = True
    request.user = owner
    changed = {
        model._meta.model_name
        for model, its_admin in admin.site._registry.items()
        if its_admin.has_change_permission(request) and set(its_admin.get_fields(request)) -
        set(its_admin.get_readonly_fields(request)) or its_admin.has_add_permission(request)
    }  # fmt: skip

    assert changed <= set(ADMIN), "give each a row in ADMIN"


# Names of files, and of a revocation that is noted outside the database.
NO_ACTIONS = {"demo.json", "invitation.ended", "records.parquet", "usage.ndjson", "workspace.json"}


def written() -> Iterator[str]:
    """The words in the code that are the name of an action."""
    kinds = "|".join(sorted({action.partition(".")[0] for action in ACTIONS}))
    for app in ("apperate", "datasets", "tokens"):
        for path in (ROOT / app).rglob("*.py"):
            if "migrations" in path.parts or path == WORDS:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and re.fullmatch(rf"({kinds})\.[a-z_]+", str(node.value)):
                    yield str(node.value)


def test_the_actions_are_those_that_the_code_writes_and_each_has_an_address() -> None:
    tables: list[Any] = [*PAGES.values(), *API.values(), *ADMIN.values()]
    from_tables = {action for row in tables if not isinstance(row, str) for action in row}
    found = set(written()) - NO_ACTIONS

    assert found == set(ACTIONS), "give each words in accounts/audit/words.py"
    assert from_tables | ELSEWHERE | {"records.delete"} == set(ACTIONS), "and a row in a table"


# --- what people do to their own account ----------------------------------------------------------


@pytest.fixture
def as_second(owner: User, monkeypatch: pytest.MonkeyPatch) -> Client:
    """The owner, signed in by the page and with a second factor, at a time that stands still."""
    hold_time(monkeypatch)
    EmailAddress.objects.create(user=owner, email=owner.email, verified=True, primary=True)
    client = Client(REMOTE_ADDR="192.0.2.7")
    client.post(reverse("account_login"), {"login": owner.email, "password": PASSWORD})
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    client.get(reverse("mfa_activate_totp"))
    client.post(reverse("mfa_activate_totp"), {"code": code_of(client.session[totp.SECRET_SESSION_KEY])})
    return client


@pytest.mark.check("S49")
@pytest.mark.django_db
def test_second_factor_and_sign_out_are_audited(as_second: Client, workspace: Workspace) -> None:
    """S49: also what somebody does who lost the factor."""
    as_second.post(reverse("mfa_generate_recovery_codes"))
    as_second.post(reverse("mfa_deactivate_totp"))
    as_second.post(reverse("account_logout"))

    facts = [(event.action, event.before, event.after) for event in AuditEvent.objects.order_by("pk")]
    a_factor, codes = {"kind": "totp"}, {"kind": "recovery_codes"}
    assert facts == [
        ("sign_in.done", None, None),
        ("factor.added", None, a_factor),
        ("factor.added", None, codes),
        ("factor.removed", codes, None),
        ("factor.added", None, codes),
        ("factor.removed", a_factor, None),
        ("factor.removed", codes, None),
        ("sign_out.done", None, None),
    ]
    assert set(AuditEvent.objects.values_list("workspace", "address")) == {(workspace.pk, "192.0.2.7")}
    assert "secret" not in str(AuditEvent.objects.values())


@pytest.mark.check("S49")
@pytest.mark.django_db
def test_a_wrong_second_factor_is_audited(as_second: Client, owner: User, workspace: Workspace) -> None:
    other = Client()
    other.post(reverse("account_login"), {"login": owner.email, "password": PASSWORD})

    other.post(reverse("mfa_authenticate"), {"code": "123456"})

    assert "_auth_user_id" not in other.session
    event = AuditEvent.objects.get(action="sign_in.code_failed", workspace=workspace)
    assert (event.actor, event.target) == ("unknown", owner.email)


@pytest.mark.django_db
def test_a_changed_address_is_audited(as_second: Client, owner: User, workspace: Workspace) -> None:
    EmailAddress.objects.create(user=owner, email="new@example.com", verified=True)

    as_second.post(reverse("account_email"), {"email": "new@example.com", "action_primary": ""})
    as_second.post(reverse("account_email"), {"email": "owner@example.com", "action_remove": ""})

    changed, removed = AuditEvent.objects.filter(action__startswith="email.").order_by("pk")
    assert (changed.before, changed.after) == ({"email": "owner@example.com"}, {"email": "new@example.com"})
    assert (removed.action, removed.before) == ("email.removed", {"email": "owner@example.com"})


@pytest.mark.check("S54")
@pytest.mark.django_db
@pytest.mark.parametrize("change", ["email", "factor", "codes", "password"])
def test_what_cannot_be_audited_is_not_changed(
    as_second: Client, owner: User, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """S54: the row is in the transaction of the change."""
    EmailAddress.objects.create(user=owner, email="new@example.com", verified=True)
    requests = {
        "email": ("account_email", {"email": "new@example.com", "action_primary": ""}),
        "factor": ("mfa_deactivate_totp", {}),
        "codes": ("mfa_generate_recovery_codes", {}),
        "password": (
            "account_change_password",
            {"oldpassword": PASSWORD, "password1": "a new long sentence", "password2": "a new long sentence"},
        ),
    }
    before = account_of(owner)
    url, data = requests[change]

    with monkeypatch.context() as patched:
        patched.setattr(trail, "record_person", refuse)
        as_second.raise_request_exception = False
        assert as_second.post(reverse(url), data).status_code == 500

    assert account_of(owner) == before
    assert as_second.post(reverse(url), data).status_code == 302
    assert account_of(owner) != before


def refuse(*_: Any, **__: Any) -> None:
    raise RuntimeError("the audit log cannot be written")


def account_of(user: User) -> list[Any]:
    """What the pages of an account change."""
    user.refresh_from_db()
    factors = user.authenticator_set.order_by("pk").values_list("pk", "type")
    return [
        user.email,
        user.password,
        *EmailAddress.objects.filter(primary=True).values_list("email"),
        *factors,
    ]


@pytest.mark.django_db
def test_a_person_whom_an_operator_changes_is_told_of_in_their_workspaces(
    owner: User, teammate: User, workspace: Workspace
) -> None:
    owner.is_staff = owner.is_superuser = True
    owner.save()
    data = {"name": "Lena", "is_active": "", "is_staff": ""}

    signed_in(owner).post(reverse("admin:accounts_user_change", args=[teammate.pk]), data)

    event = AuditEvent.objects.get(action="person.changed", workspace=workspace)
    assert (event.user, event.target) == (owner, teammate.email)
    assert (event.before["is_active"], event.after["is_active"]) == (True, False)
