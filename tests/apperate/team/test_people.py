"""Signing in, passwords, invitations: who gets in, and above all who does not."""

import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from apperate.accounts import services
from apperate.accounts.models import AuditEvent, Invitation, Membership, Role, User, Workspace
from apperate.accounts.services import Invited, digest_of
from apperate.kernel.refusals import Refusal
from tests.conftest import signed_in
from tests.support.factories import PASSWORD, MembershipFactory, UserFactory, WorkspaceFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NEW = {"name": "Lena", "password": "a long enough sentence"}
pytestmark = pytest.mark.django_db


def invited(
    workspace: Workspace, by: User | None, *, email: str = "lena@example.com", **given: Any
) -> Invited:
    given = {"role": Role.USER, "now": datetime.now(UTC)} | given
    outcome = services.invite(workspace=workspace, email=email, by=by, **given)
    assert isinstance(outcome, Invited)
    return outcome


def path_of(invitation: Invited) -> str:
    return "/" + invitation.url.split("/", 3)[3]


def shows(response: Any, text: str) -> bool:
    return text in re.sub(r"\s+", " ", response.content.decode())


# --- signing in and out -------------------------------------------------------------------------------


@pytest.mark.check("S47")
def test_sign_in_opens_a_session_with_a_new_id_and_is_audited(client: Client, teammate: User) -> None:
    client.get(reverse("account_login"))
    before = client.session.session_key

    response = client.post(reverse("account_login"), {"login": "Teammate@Example.com", "password": PASSWORD})

    assert response.status_code == 302
    assert client.session["_auth_user_id"] == str(teammate.pk)
    assert client.session.session_key != before
    assert AuditEvent.objects.get(action="sign_in.done").user == teammate


def test_wrong_password_and_unknown_address_get_the_same_answer(client: Client, teammate: User) -> None:
    known = client.post(reverse("account_login"), {"login": teammate.email, "password": "wrong"})
    unknown = client.post(reverse("account_login"), {"login": "nobody00@example.com", "password": "wrong"})

    assert "_auth_user_id" not in client.session
    assert re.sub(r'value="[^"]*"', "", known.content.decode()) == re.sub(
        r'value="[^"]*"', "", unknown.content.decode()
    )
    assert AuditEvent.objects.filter(action="sign_in.failed").count() == 2


@pytest.mark.check("S31")
def test_an_address_under_attack_is_refused_and_its_owner_still_gets_in_elsewhere(teammate: User) -> None:
    """S31: the limit goes by address of the client and by account."""
    attacker, session = Client(REMOTE_ADDR="192.0.2.1"), signed_in(teammate)
    for _ in range(8):
        answer = attacker.post(reverse("account_login"), {"login": teammate.email, "password": "guess"})

    assert shows(answer, "Too many failed login attempts")
    assert session.get(reverse("team:members")).status_code == 200


def test_sign_out_needs_a_post(as_teammate: Client) -> None:
    as_teammate.get(reverse("account_logout"))
    assert "_auth_user_id" in as_teammate.session

    as_teammate.post(reverse("account_logout"))

    assert "_auth_user_id" not in as_teammate.session


def test_a_person_who_is_switched_off_is_signed_out(as_teammate: Client, teammate: User) -> None:
    User.objects.filter(pk=teammate.pk).update(is_active=False)

    assert as_teammate.get(reverse("team:members")).status_code == 302


def test_nobody_signs_up_alone(client: Client) -> None:
    page = client.get(reverse("account_signup"))
    client.post(
        reverse("account_signup"),
        {"email": "new@example.com", "password1": NEW["password"], "password2": NEW["password"]},
    )

    assert shows(page, "By invitation only")
    assert not User.objects.exists()


# --- passwords ----------------------------------------------------------------------------------------


@pytest.mark.check("S51")
def test_reset_answers_the_same_for_an_unknown_address(
    client: Client, teammate: User, mailoutbox: list[Any]
) -> None:
    """S51: nobody learns from the page who has an account."""
    url = reverse("account_reset_password")

    answers = [
        client.post(url, {"email": email}, follow=True) for email in (teammate.email, "no@example.com")
    ]

    first, second = (re.sub(r'name="csrf\w+" value="[^"]*"', "", a.content.decode()) for a in answers)
    assert first == second
    assert [message.to for message in mailoutbox] == [[teammate.email], ["no@example.com"]]
    assert "/account/password/reset/key/" in mailoutbox[0].body
    assert "no account has this address" in mailoutbox[1].body


@pytest.mark.check("S47", "S51")
def test_reset_link_works_once_and_ends_other_sessions(
    client: Client, teammate: User, as_teammate: Client, mailoutbox: list[Any]
) -> None:
    client.post(reverse("account_reset_password"), {"email": teammate.email})
    link = re.search(r"https?://[^/]+(/account/password/reset/key/\S+)", mailoutbox[0].body)
    assert link
    form = client.get(link[1], follow=True)

    client.post(
        form.redirect_chain[-1][0],
        {"password1": "another long sentence", "password2": "another long sentence"},
    )

    assert Client().login(email=teammate.email, password="another long sentence")
    assert as_teammate.get(reverse("team:members")).status_code == 302
    assert shows(Client().get(link[1], follow=True), "This link does not work")
    assert AuditEvent.objects.get(action="password.changed").user == teammate


@pytest.mark.check("S51")
def test_reset_link_has_the_host_of_the_settings(
    client: Client, teammate: User, mailoutbox: list[Any]
) -> None:
    """S51: a forged Host or X-Forwarded-Host does not get into a message."""
    client.post(
        reverse("account_reset_password"),
        {"email": teammate.email},
        headers={"host": "evil.example", "x-forwarded-host": "evil.example"},
    )

    assert "evil.example" not in mailoutbox[0].body
    assert "http://127.0.0.1:8000/account/password/reset/key/" in mailoutbox[0].body


@pytest.mark.check("S50")
@pytest.mark.parametrize("password", ["short", "password123", "lena@example.com"])
def test_weak_passwords_are_refused(client: Client, workspace: Workspace, password: str) -> None:
    invitation = invited(workspace, None)

    answer = client.post(path_of(invitation), NEW | {"password": password})

    assert answer.status_code == 422
    assert not User.objects.exists()


@pytest.mark.check("S50")
def test_a_long_password_with_spaces_is_kept_as_it_is(client: Client, workspace: Workspace) -> None:
    password = " " + "x y" * 30
    client.post(path_of(invited(workspace, None)), NEW | {"password": password})

    assert Client().login(email="lena@example.com", password=password)


# --- invitations: sending -----------------------------------------------------------------------------


def test_invitation_is_sent_and_only_its_digest_is_kept(
    workspace: Workspace, owner: User, mailoutbox: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        outcome = invited(workspace, owner, email="Lena@Example.com")

    token = outcome.url.rstrip("/").rsplit("/", 1)[1]
    row = Invitation.objects.get()
    assert (row.email, bytes(row.digest)) == ("lena@example.com", digest_of(token))
    assert mailoutbox[0].to == ["lena@example.com"]
    assert outcome.url in mailoutbox[0].body
    assert outcome.url in mailoutbox[0].alternatives[0][0]
    assert token not in str(AuditEvent.objects.values())


def test_a_title_cannot_add_headers_to_the_message(
    owner: User, workspace: Workspace, mailoutbox: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    workspace.title = "Acme\r\nBcc: all@example.com"
    with django_capture_on_commit_callbacks(execute=True):
        invited(workspace, owner)

    assert mailoutbox[0].subject == "[Apperate] Invitation to Acme Bcc: all@example.com"
    assert mailoutbox[0].recipients() == ["lena@example.com"]


def test_a_second_invitation_replaces_the_first(client: Client, workspace: Workspace, owner: User) -> None:
    first = invited(workspace, owner)
    second = invited(workspace, owner)

    assert client.get(path_of(first)).status_code == 410
    assert client.get(path_of(second)).status_code == 200


@pytest.mark.parametrize(
    ("who", "email", "role", "words"),
    [
        ("teammate", "lena@example.com", Role.USER, "Only admins"),
        ("outsider", "lena@example.com", Role.USER, "Only admins"),
        ("owner", "TEAMMATE@example.com", Role.USER, "member of Acme already"),
        ("owner", "lena@example.com", Role.PRIMARY, "has a primary already"),
        ("owner", "lena@example.com", "king", "role"),
    ],
    ids=["a user", "an outsider", "a member", "a second primary", "an unknown role"],
)
def test_invitations_that_are_refused(
    request: Any,
    workspace: Workspace,
    owner: User,
    teammate: User,
    who: str,
    email: str,
    role: str,
    words: str,
) -> None:
    by = request.getfixturevalue(who)

    outcome = services.invite(workspace=workspace, email=email, role=role, by=by, now=NOW)

    assert isinstance(outcome, Refusal)
    assert words in outcome.detail
    assert not Invitation.objects.exists()


# --- invitations: accepting ---------------------------------------------------------------------------


def test_a_new_person_chooses_a_password_and_lands_in_the_workspace(
    client: Client, workspace: Workspace
) -> None:
    invitation = invited(workspace, None, role=Role.PRIMARY)

    answer = client.post(path_of(invitation), NEW)

    membership = Membership.objects.get(workspace=workspace)
    assert (membership.user.name, membership.user.email, membership.role) == (
        "Lena",
        "lena@example.com",
        "primary",
    )
    assert answer.headers["Location"] == reverse("home")
    page = client.get(reverse("team:members"))
    assert page.wsgi_request.workspace == workspace
    assert AuditEvent.objects.get(action="member.joined").user == membership.user


def test_opening_a_link_changes_nothing(client: Client, workspace: Workspace) -> None:
    """Mail programs open links on their own."""
    assert client.get(path_of(invited(workspace, None))).status_code == 200

    assert not User.objects.exists()
    assert Invitation.objects.get().accepted_at is None


def test_a_known_person_signs_in_and_joins(workspace: Workspace, stranger: User) -> None:
    link = path_of(invited(workspace, None, email=stranger.email))
    other = MembershipFactory(user=stranger, workspace__title="A first workspace by title").workspace
    client = Client()

    asked = client.get(link)
    client.post(reverse("account_login") + f"?next={link}", {"login": stranger.email, "password": PASSWORD})
    client.post(link)

    assert shows(asked, "Sign in to join")
    page = client.get(reverse("team:members"))
    assert page.wsgi_request.workspace == workspace != other


def test_nobody_sets_a_password_for_a_known_address_by_a_link(workspace: Workspace, stranger: User) -> None:
    link = path_of(invited(workspace, None, email=stranger.email))

    Client().post(link, NEW)

    assert not workspace.memberships.exists()
    assert Client().login(email=stranger.email, password=PASSWORD)


@pytest.mark.check("S52")
def test_a_link_for_another_address_says_so(
    workspace: Workspace, as_outsider: Client, outsider: User
) -> None:
    """S52: an invitation is bound to its address."""
    link = path_of(invited(workspace, None))

    answers = [as_outsider.get(link), as_outsider.post(link)]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert shows(answers[0], "This invitation is for another address")
    assert not workspace.memberships.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expires_at": NOW - timedelta(seconds=1)}, "has expired"),
        ({"accepted_at": NOW}, "was used already"),
        ({"withdrawn_at": NOW}, "was withdrawn"),
    ],
    ids=["expired", "used", "withdrawn"],
)
def test_links_that_no_longer_work_say_why(
    client: Client, workspace: Workspace, change: dict[str, Any], words: str
) -> None:
    invitation = invited(workspace, None, now=NOW)
    Invitation.objects.update(**change)

    answers = [client.get(path_of(invitation)), client.post(path_of(invitation), NEW)]
    token = invitation.url.rstrip("/").rsplit("/", 1)[1]
    outcome = services.accept_invitation(token=token, now=NOW, **NEW)

    assert [answer.status_code for answer in answers] == [410, 410]
    assert shows(answers[0], words)
    assert isinstance(outcome, Refusal)
    assert words in outcome.detail
    assert not User.objects.exists()


def test_an_unknown_link_is_not_found(client: Client) -> None:
    assert client.get("/join/nothing/").status_code == 404


def test_a_primary_who_comes_second_becomes_an_admin(workspace: Workspace) -> None:
    links = [invited(workspace, None, email=f"p{n}@example.com", role=Role.PRIMARY) for n in range(2)]

    for link in links:
        Client().post(path_of(link), NEW)

    assert sorted(workspace.memberships.values_list("role", flat=True)) == ["admin", "primary"]


# --- createworkspace ----------------------------------------------------------------------------------


def make(*args: str) -> str:
    out = io.StringIO()
    call_command("createworkspace", *args, stdout=out)
    return out.getvalue()


def test_createworkspace_makes_a_workspace_whose_owner_comes_in_by_the_link(client: Client) -> None:
    said = make("acme_data", "--owner", "Olga@Example.com", "--title", "Acme Data")

    link = re.search(r"http://\S+?(/join/\S+)", said)
    assert link
    client.post(link[1], NEW)
    workspace = Workspace.objects.get()
    assert (workspace.name, workspace.title, workspace.plan) == ("ACME_DATA", "Acme Data", "business")
    assert workspace.memberships.get().role == Role.PRIMARY
    assert workspace.tokens.get().is_secret


def test_createworkspace_takes_a_password_from_the_standard_input(monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a long enough sentence\n"))

    make("ACME", "--owner", "olga@example.com", "--password-stdin")

    assert Client().login(email="olga@example.com", password="a long enough sentence")
    assert not Invitation.objects.exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["ACME", "--owner", "o@example.com"], "a name that no workspace has"),
        (["acme", "--owner", "o@example.com"], "a name that no workspace has"),
        (["A-B", "--owner", "o@example.com"], "A–Z"),
        (["_SYSTEM_X", "--owner", "o@example.com"], "_SYSTEM"),
        (["A" * 64, "--owner", "o@example.com"], "A–Z"),
        (["NEW", "--owner", "no address"], "valid email"),
    ],
    ids=["taken", "taken in another case", "a dash", "a system name", "too long", "no address"],
)
def test_createworkspace_refuses_and_makes_nothing(workspace: Workspace, args: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        make(*args)

    assert Workspace.objects.count() == 1
    assert not Invitation.objects.exists()


def test_createworkspace_with_a_known_owner_and_a_password_makes_nothing(monkeypatch: Any) -> None:
    UserFactory(email="olga@example.com")
    monkeypatch.setattr("sys.stdin", io.StringIO("a long enough sentence\n"))

    with pytest.raises(CommandError, match="has an account already"):
        make("ACME", "--owner", "olga@example.com", "--password-stdin")

    assert not Workspace.objects.exists()


def test_core_and_premium_are_made_by_operators_alone(owner: User) -> None:
    refused = services.create_workspace_row(name="core", title="", plan="launch", by=owner, now=NOW)
    made = services.create_workspace_row(name="core", title="Core", plan="business", by=None, now=NOW)

    assert isinstance(refused, Refusal)
    assert isinstance(made, Workspace)
    assert made.is_system


def test_later_workspaces_are_on_launch() -> None:
    WorkspaceFactory()

    made = services.create_workspace_row(name="next", title="", plan=None, by=None, now=NOW)

    assert isinstance(made, Workspace)
    assert made.plan == "launch"
