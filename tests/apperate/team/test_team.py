"""The team page: what admins change, and what nobody can."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apperate.accounts import services
from apperate.accounts.models import AuditEvent, Invitation, Membership, Role, User, Workspace
from apperate.kernel.refusals import Refusal
from tests.apperate.team.test_people import invited, path_of, shows
from tests.conftest import signed_in
from tests.support.factories import MembershipFactory, TokenFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def of(user: User, workspace: Workspace) -> Membership:
    return Membership.objects.get(user=user, workspace=workspace)


def changing_requests(
    workspace: Workspace, member: User, invitation: Invitation
) -> list[tuple[str, dict[str, str]]]:
    pk = of(member, workspace).pk
    return [
        (reverse("team:invite"), {"email": "new@example.com", "role": "user"}),
        (reverse("team:invitation_resend", args=[invitation.pk]), {}),
        (reverse("team:invitation_withdraw", args=[invitation.pk]), {}),
        (reverse("team:member_role", args=[pk]), {"role": "admin"}),
        (reverse("team:member_remove", args=[pk]), {}),
    ]


def test_everyone_in_the_workspace_sees_the_team(
    as_teammate: Client, owner: User, workspace: Workspace
) -> None:
    invited(workspace, owner)

    page = as_teammate.get(reverse("team:members"))

    assert shows(page, "owner@example.com")
    assert shows(page, "lena@example.com")
    assert not shows(page, "Send an Invite")
    assert not shows(page, "Remove user")


def test_an_admin_invites_from_the_page(
    as_admin: Client, workspace: Workspace, mailoutbox: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = as_admin.post(
            reverse("team:invite"), {"email": "lena@example.com", "role": "admin"}, follow=True
        )

    assert shows(answer, "Invitation sent to lena@example.com.")
    assert workspace.invitations.get().role == Role.ADMIN
    assert len(mailoutbox) == 1


@pytest.mark.django_db(transaction=True)
def test_a_message_that_cannot_be_sent_is_told_and_the_invitation_is_kept(
    as_admin: Client, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9  # Nothing listens there.

    answer = as_admin.post(reverse("team:invite"), {"email": "lena@example.com", "role": "user"}, follow=True)

    assert shows(answer, "the message to lena@example.com could not be sent")
    assert shows(answer, "Send again")
    assert Invitation.objects.count() == 1


def test_users_and_outsiders_change_nothing(
    as_teammate: Client, as_outsider: Client, teammate: User, owner: User, workspace: Workspace
) -> None:
    """S52, S13: a user is told who can; another workspace's people and invitations do not exist."""
    invitation = invited(workspace, owner).invitation
    before = list(AuditEvent.objects.values_list("pk", flat=True))
    for url, data in changing_requests(workspace, teammate, invitation):
        refused = as_teammate.post(url, data)
        assert refused.status_code == 403
        assert shows(refused, "Only admins can do this")
        if url != reverse("team:invite"):
            assert as_outsider.post(url, data).status_code == 404

    assert list(AuditEvent.objects.values_list("pk", flat=True)) == before
    assert of(teammate, workspace).role == Role.USER


def test_signed_out_people_are_asked_to_sign_in(
    client: Client, teammate: User, owner: User, workspace: Workspace
) -> None:
    invitation = invited(workspace, owner).invitation
    for url, data in changing_requests(workspace, teammate, invitation):
        assert client.post(url, data).headers["Location"].startswith(reverse("account_login"))

    assert of(teammate, workspace).role == Role.USER


def test_a_get_changes_nothing(as_owner: Client, teammate: User, owner: User, workspace: Workspace) -> None:
    invitation = invited(workspace, owner).invitation
    for url, data in changing_requests(workspace, teammate, invitation):
        assert as_owner.get(url, data).status_code in {200, 405}

    assert of(teammate, workspace).role == Role.USER
    assert Invitation.objects.get().withdrawn_at is None


@pytest.mark.check("S46")
def test_a_post_without_a_csrf_token_is_refused(teammate: User, owner: User, workspace: Workspace) -> None:
    invitation = invited(workspace, owner).invitation
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    for url, data in changing_requests(workspace, teammate, invitation):
        answer = client.post(url, data)
        assert answer.status_code == 403
        assert shows(answer, "This page is out of date")

    assert of(teammate, workspace).role == Role.USER


def test_withdrawn_and_resent_links(
    as_owner: Client, owner: User, workspace: Workspace, client: Client
) -> None:
    first = invited(workspace, owner)
    as_owner.post(reverse("team:invitation_resend", args=[first.invitation.pk]))
    assert client.get(path_of(first)).status_code == 404

    as_owner.post(reverse("team:invitation_withdraw", args=[first.invitation.pk]))

    assert workspace.invitations.get().withdrawn_at is not None
    again = as_owner.post(reverse("team:invitation_resend", args=[first.invitation.pk]), follow=True)
    assert shows(again, "was withdrawn")


def test_admin_status_is_given_and_taken(as_owner: Client, teammate: User, workspace: Workspace) -> None:
    url = reverse("team:member_role", args=[of(teammate, workspace).pk])

    as_owner.post(url, {"role": "admin"})
    given = of(teammate, workspace).role
    as_owner.post(url, {"role": "user"})

    assert (given, of(teammate, workspace).role) == (Role.ADMIN, Role.USER)
    events = AuditEvent.objects.filter(action="member.role_changed").order_by("pk")
    assert [(e.before, e.after) for e in events] == [
        ({"role": "user"}, {"role": "admin"}),
        ({"role": "admin"}, {"role": "user"}),
    ]


def test_nobody_becomes_primary_on_the_page(as_owner: Client, teammate: User, workspace: Workspace) -> None:
    as_owner.post(reverse("team:member_role", args=[of(teammate, workspace).pk]), {"role": "primary"})

    assert of(teammate, workspace).role == Role.USER


@pytest.mark.check("S52")
def test_the_primary_stays(as_admin: Client, owner: User, workspace: Workspace) -> None:
    pk = of(owner, workspace).pk

    answers = [
        as_admin.post(reverse("team:member_role", args=[pk]), {"role": "user"}, follow=True),
        as_admin.post(reverse("team:member_remove", args=[pk]), follow=True),
    ]

    assert all(shows(answer, "The primary cannot be removed") for answer in answers)
    assert of(owner, workspace).role == Role.PRIMARY


@pytest.mark.check("S52")
def test_a_user_cannot_promote_themselves_by_the_service(teammate: User, workspace: Workspace) -> None:
    outcome = services.change_role(membership=of(teammate, workspace), role=Role.ADMIN, by=teammate, now=NOW)

    assert isinstance(outcome, Refusal)
    assert of(teammate, workspace).role == Role.USER


@pytest.mark.check("S47")
def test_a_removed_person_sees_the_workspace_no_more_in_any_session(
    as_owner: Client, as_teammate: Client, teammate: User, workspace: Workspace
) -> None:
    other_browser = signed_in(teammate)
    other = MembershipFactory(user=teammate, workspace__title="Other").workspace
    for browser in (as_teammate, other_browser):
        browser.post(reverse("workspace_switch", args=[workspace.name]))

    as_owner.post(reverse("team:member_remove", args=[of(teammate, workspace).pk]))

    for browser in (as_teammate, other_browser):
        assert browser.get(reverse("team:members")).wsgi_request.workspace == other
        assert browser.post(reverse("workspace_switch", args=[workspace.name])).status_code == 404


def test_a_person_removed_from_the_last_workspace_reads_so(
    as_owner: Client, as_teammate: Client, teammate: User, workspace: Workspace
) -> None:
    as_owner.post(reverse("team:member_remove", args=[of(teammate, workspace).pk]))

    page = as_teammate.get(reverse("team:members"))

    assert page.status_code == 403
    assert shows(page, "You belong to no workspace")


@pytest.mark.check("S52")
def test_the_removal_page_lists_the_tokens_that_person_made(
    as_owner: Client, teammate: User, owner: User, workspace: Workspace
) -> None:
    TokenFactory(workspace=workspace, created_by=teammate, nickname="Theirs")
    TokenFactory(workspace=workspace, created_by=owner, nickname="Mine")

    page = as_owner.get(reverse("team:member_remove", args=[of(teammate, workspace).pk]))

    assert shows(page, "Theirs")
    assert not shows(page, "Mine")
