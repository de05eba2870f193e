"""The operators' admin: closed to everyone else, without secrets, and by the same services as the pages."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import AuditEvent, Invitation, Membership, Role, User, Workspace
from tests.apperate.team.test_people import NEW
from tests.conftest import signed_in
from tests.support.factories import UserFactory

pytestmark = pytest.mark.django_db
SECRET_WORDS = {"password", "digest", "ciphertext", "clear", "secret", "data", "key"}


@pytest.fixture
def operator(db: None) -> User:
    return UserFactory(email="operator@example.com", is_staff=True, is_superuser=True)


@pytest.fixture
def as_operator(operator: User) -> Client:
    return signed_in(operator)


def operator_pages() -> list[str]:
    return [
        reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}")
        for model, its_admin in admin.site._registry.items()
        for page in ("changelist", "add")
    ]


def test_signed_out_people_sign_in_where_the_limits_are(client: Client) -> None:
    for url in [reverse("admin:index"), reverse("admin:login"), *operator_pages()]:
        answer = client.get(url, follow=True)
        assert answer.redirect_chain[-1][0].startswith(reverse("account_login"))
        assert "Django administration" not in answer.content.decode()


def test_the_admins_own_sign_in_form_is_closed(client: Client, operator: User) -> None:
    client.post(
        reverse("admin:login"), {"username": operator.email, "password": "correct horse battery staple"}
    )

    assert "_auth_user_id" not in client.session


@pytest.mark.check("S53")
def test_owners_and_users_of_workspaces_are_not_operators(as_owner: Client, as_teammate: Client) -> None:
    """S53: staff only."""
    for client in (as_owner, as_teammate):
        for url in [reverse("admin:index"), *operator_pages()]:
            assert client.get(url, follow=True).status_code == 403


def test_staff_without_a_permission_changes_nothing(teammate: User, workspace: Workspace) -> None:
    client = signed_in(UserFactory(is_staff=True))
    membership = Membership.objects.get(user=teammate)

    answers = [
        client.post(reverse("admin:accounts_workspace_add"), {"name": "NEW"}),
        client.post(reverse("admin:accounts_membership_delete", args=[membership.pk]), {"post": "yes"}),
    ]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert Membership.objects.filter(pk=membership.pk).exists()


@pytest.mark.check("S53")
def test_no_secret_field_is_in_the_admin(as_operator: Client, operator: User, rf: Any) -> None:
    """S53: crawl every registered model's list and form."""
    request = rf.get("/")
    request.user = operator
    for model, its_admin in admin.site._registry.items():
        shown = {
            *its_admin.get_list_display(request),
            *its_admin.get_fields(request),
            *its_admin.get_search_fields(request),
        }
        words = {word for name in shown for word in re.split(r"[^a-z]+", str(name))}
        assert not words & SECRET_WORDS, model


@pytest.mark.check("S48")
def test_every_page_of_the_admin_opens_and_keeps_the_policy(
    as_operator: Client, owner: User, workspace: Workspace
) -> None:
    for url in [reverse("admin:index"), *operator_pages()]:
        answer = as_operator.get(url)
        assert answer.status_code in {200, 403}, url
        assert "unsafe" not in answer.headers["Content-Security-Policy"]


def add_workspace(client: Client, **given: str) -> Any:
    data = {
        "name": "acme_data",
        "title": "Acme Data",
        "plan": "scale",
        "owner_email": "olga@example.com",
    } | given
    return client.post(reverse("admin:accounts_workspace_add"), data, follow=True)


def test_an_operator_makes_a_workspace_whose_owner_lands_in_it(
    as_operator: Client,
    operator: User,
    client: Client,
    mailoutbox: list[Any],
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = add_workspace(as_operator)

    link = re.search(r"http://\S+?(/join/[\w-]+/)", answer.content.decode())
    assert link
    assert link[1] in mailoutbox[0].body
    client.post(link[1], NEW)
    workspace = Workspace.objects.get()
    assert (workspace.name, workspace.plan, workspace.tokens.get().is_secret) == ("ACME_DATA", "scale", True)
    assert workspace.memberships.get().role == Role.PRIMARY
    assert client.get(reverse("team:members")).wsgi_request.workspace == workspace
    assert AuditEvent.objects.get(action="workspace.created").user == operator


@pytest.mark.parametrize(
    "given",
    [{"name": "ACME"}, {"name": "a-b"}, {"name": "_SYSTEM"}, {"plan": "gold"}, {"owner_email": "nobody"}],
    ids=lambda given: "=".join(*given.items()),
)
def test_a_workspace_that_cannot_be_is_not_made(
    as_operator: Client, workspace: Workspace, given: dict[str, str]
) -> None:
    answer = add_workspace(as_operator, **given)

    assert "Please correct the error" in answer.content.decode()
    assert Workspace.objects.count() == 1


def test_changing_a_plan_is_audited(as_operator: Client, workspace: Workspace) -> None:
    as_operator.post(
        reverse("admin:accounts_workspace_change", args=[workspace.pk]), {"title": "Acme", "plan": "grow"}
    )

    workspace.refresh_from_db()
    event = AuditEvent.objects.get(action="workspace.changed")
    assert workspace.plan == "grow"
    assert (event.before, event.after) == ({"plan": "business"}, {"plan": "grow"})


def test_an_operator_adds_a_teammate_by_invitation(
    as_operator: Client,
    workspace: Workspace,
    client: Client,
    mailoutbox: list[Any],
    django_capture_on_commit_callbacks: Any,
) -> None:
    url = reverse("admin:accounts_invitation_add")
    data = {"workspace": str(workspace.pk), "email": "lena@example.com", "role": "user"}
    with django_capture_on_commit_callbacks(execute=True):
        as_operator.post(url, data)

    link = re.search(r"(/join/[\w-]+/)", mailoutbox[0].body)
    assert link
    client.post(link[1], NEW)
    assert workspace.memberships.get().role == Role.USER


def test_an_operator_cannot_add_who_is_in_already(
    as_operator: Client, teammate: User, workspace: Workspace
) -> None:
    data = {"workspace": str(workspace.pk), "email": teammate.email, "role": "user"}

    answer = as_operator.post(reverse("admin:accounts_invitation_add"), data)

    assert "member of Acme already" in answer.content.decode()
    assert not Invitation.objects.exists()


def test_members_are_removed_by_the_rules_of_the_team_page(
    as_operator: Client, owner: User, teammate: User, workspace: Workspace
) -> None:
    for user in (owner, teammate):
        pk = workspace.memberships.get(user=user).pk
        as_operator.post(reverse("admin:accounts_membership_delete", args=[pk]), {"post": "yes"})
    action = {
        "action": "remove_user",
        "_selected_action": [str(one.pk) for one in workspace.memberships.all()],
    }
    as_operator.post(reverse("admin:accounts_membership_changelist"), action)

    assert [one.user for one in workspace.memberships.all()] == [owner]
    assert AuditEvent.objects.get(action="member.removed").target == teammate.email


def test_people_are_neither_made_nor_deleted_nor_given_a_password(
    as_operator: Client, teammate: User
) -> None:
    answers = [
        as_operator.post(reverse("admin:accounts_user_add"), {"email": "x@example.com"}),
        as_operator.post(reverse("admin:accounts_user_delete", args=[teammate.pk]), {"post": "yes"}),
    ]
    as_operator.post(
        reverse("admin:accounts_user_change", args=[teammate.pk]),
        {"name": "T", "is_active": "on", "password": "x", "is_superuser": "on", "email": "x@example.com"},
    )

    before = teammate.password
    teammate.refresh_from_db()
    assert [answer.status_code for answer in answers] == [403, 403]
    assert (teammate.name, teammate.password, teammate.email) == ("T", before, "teammate@example.com")
    assert not teammate.is_superuser
