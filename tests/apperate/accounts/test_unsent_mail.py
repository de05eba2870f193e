"""Without a mail server links are printed for development only: over https no log holds one."""

import io
import logging
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.conf import settings as in_force
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import Invitation, User
from apperate.doctor import surroundings
from tests.apperate.team.test_people import shows
from tests.support.installation import free_port

CONSOLE = "django.core.mail.backends.console.EmailBackend"
UNSENT = "apperate.accounts.sign_in.unsent.EmailBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"
LINK = re.compile(r"https?://\S+/(?:join|invitation|password/reset/key)\S*/\S+")


@pytest.mark.parametrize(
    ("public_url", "email_url", "backend"),
    [
        ("", "", CONSOLE),
        ("http://127.0.0.1:8000", "", CONSOLE),
        ("http://data.example.com", "consolemail://", CONSOLE),
        ("https://data.example.com", "", UNSENT),
        ("https://data.example.com", "consolemail://", UNSENT),
        ("https://data.example.com", "smtp://mail.example.com:25", SMTP),
        ("http://127.0.0.1:8000", "smtp://mail.example.com:25", SMTP),
    ],
)
def test_messages_are_printed_over_plain_http_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, public_url: str, email_url: str, backend: str
) -> None:
    monkeypatch.setenv("APPERATE_DATA_DIR", str(tmp_path))
    for name, value in {"APPERATE_PUBLIC_URL": public_url, "EMAIL_URL": email_url}.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)

    found = runpy.run_path(str(in_force.BASE_DIR / "apperate" / "settings.py"))

    assert found["EMAIL_BACKEND"] == backend


@pytest.fixture
def unsent(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.EMAIL_BACKEND = UNSENT
    caplog.set_level(logging.DEBUG)


def written(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> str:
    """Everything that was printed and logged."""
    printed = capfd.readouterr()
    return f"{printed.out}{printed.err}{caplog.text}"


@pytest.mark.check("S52")
@pytest.mark.django_db(transaction=True)
def test_an_invitation_over_https_is_saved_and_its_link_written_nowhere(
    unsent: None, as_admin: Client, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """S52: the invitation is for who reads the mail of its address, and for nobody who reads the log."""
    invited = as_admin.post(
        reverse("team:invite"), {"email": "lena@example.com", "role": "user"}, follow=True
    )
    again = as_admin.post(reverse("team:invitation_resend", args=[Invitation.objects.get().pk]), follow=True)

    for answer in (invited, again):
        assert shows(answer, "The invitation of lena@example.com is saved and was not sent")
        assert shows(answer, "EMAIL_URL")
        assert not LINK.search(answer.content.decode())
    said = written(capfd, caplog)
    assert said.count("1 messages were not sent, because EMAIL_URL is not set") >= 2
    assert not LINK.search(said)
    assert "lena@example.com" not in said


@pytest.mark.check("S51")
@pytest.mark.django_db
@pytest.mark.parametrize("email", ["teammate@example.com", "nobody@example.com"])
def test_a_reset_link_over_https_is_written_nowhere_and_the_page_says_so(
    unsent: None,
    client: Client,
    teammate: User,
    email: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S51: and the answer is the same for an address without an account."""
    page = client.get(reverse("account_reset_password"))
    answer = client.post(reverse("account_reset_password"), {"email": email})

    assert shows(page, "No link can be sent: this installation has no mail server.")
    assert (answer.status_code, answer.headers["Location"]) == (302, reverse("account_reset_password_done"))
    said = written(capfd, caplog)
    assert "not sent" in said
    assert not LINK.search(said)
    assert email not in said


@pytest.mark.django_db
def test_the_team_page_tells_those_who_invite_what_to_set(
    unsent: None, as_admin: Client, as_teammate: Client
) -> None:
    text = "Invites are saved and not sent: this installation has no mail server."

    assert shows(as_admin.get(reverse("team:members")), text)
    assert shows(as_admin.get(reverse("team:invite")), "No message goes out")
    assert not shows(as_teammate.get(reverse("team:members")), text)


@pytest.mark.django_db
def test_with_a_mail_server_no_page_speaks_of_it(as_admin: Client, client: Client) -> None:
    for answer in (as_admin.get(reverse("team:members")), client.get(reverse("account_reset_password"))):
        assert not shows(answer, "no mail server")


@pytest.mark.django_db(transaction=True)
def test_for_development_the_link_is_printed(
    settings: Any, as_admin: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.EMAIL_BACKEND = CONSOLE

    answer = as_admin.post(reverse("team:invite"), {"email": "lena@example.com", "role": "user"}, follow=True)

    assert shows(answer, "Invitation sent to lena@example.com.")
    assert LINK.search(capsys.readouterr().out)


@pytest.mark.django_db(transaction=True)
def test_createworkspace_shows_its_link_to_who_asked(
    unsent: None, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = io.StringIO()

    call_command("createworkspace", "FIRST", owner="first@example.com", stdout=out)

    assert LINK.search(out.getvalue())
    assert not LINK.search(written(capfd, caplog))


@pytest.mark.django_db(transaction=True)
def test_createworkspace_shows_its_link_though_the_mail_server_is_away(settings: LazySettings) -> None:
    """The workspace is made by then, so without the link nobody would ever get in."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    out, err = io.StringIO(), io.StringIO()

    call_command("createworkspace", "FIRST", owner="first@example.com", stdout=out, stderr=err)

    assert LINK.search(out.getvalue())
    assert "It could not be sent: [Errno 111] Connection refused" in err.getvalue()


def test_doctor_says_that_nothing_is_sent(unsent: None) -> None:
    finding = surroundings.mail()

    assert (finding.level, finding.subject) == ("warn", "E-mail")
    assert "not sent" in finding.detail and "EMAIL_URL" in finding.advice
