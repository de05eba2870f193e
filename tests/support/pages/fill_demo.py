"""Fills a demo until every page has something to show. Run inside the installation, by filled().

The last line that it prints is what it made: addresses of rows that a page is about, and a session for
each person. The people sign in as anybody does, so that what a session must hold is in it.
"""

import io
import json
import sys
from datetime import timedelta
from typing import Any

PASSWORD = "a long enough sentence"
OWNER, MEMBER, ROSA = "owner@demo.example", "teammate@demo.example", "rosa@demo.example"
CSV = b"ticker,date,close\nIBM,2024-01-02,4\nIBM,never,1\n"
SCHEMA = {
    "type": "object",
    "properties": {
        "ticker": {"type": "string"},
        "date": {"type": "string", "format": "date"},
        "close": {"type": "number"},
    },
}


def filled(demo: Any) -> dict[str, Any]:
    """Fill a running demo; what was made."""
    said = demo.manage("shell", "-v", "0", "-c", "from tests.support.pages.fill_demo import main; main()")
    made: dict[str, Any] = json.loads(said.splitlines()[-1])
    return made


def main() -> None:
    from apperate.accounts.models import User, Workspace
    from apperate.database.clock import database_now
    from apperate.demo.making import kept_passwords

    passwords = kept_passwords()
    workspace = Workspace.objects.get(name="DEMO")
    owner, now = User.objects.get(email=OWNER), database_now()
    made = people(workspace, owner, now) | tokens(workspace, owner, now) | datasets(workspace, owner, now)
    made["sessions"] = {
        "nobody": {},
        "owner": session(OWNER, passwords[OWNER]),
        "member": session(MEMBER, passwords[MEMBER]),
        "half signed in": session(ROSA, PASSWORD),
        "second factor": session(ROSA, PASSWORD, code=made.pop("recovery_codes")[0]),
    }
    made["reset"] = reset_link(User.objects.get(email=ROSA))
    sys.stdout.write("\n" + json.dumps(made) + "\n")


def session(email: str, password: str, *, code: str = "") -> dict[str, str]:
    """The cookies of who gave their password just now. A second factor without `code` leaves them half in."""
    from django.test import Client
    from django.urls import reverse

    client = Client()
    client.post(reverse("account_login"), {"login": email, "password": password})
    if code:
        client.post(reverse("mfa_authenticate"), {"code": code})
    client.post(reverse("account_reauthenticate"), {"password": password})
    return {name: morsel.value for name, morsel in client.cookies.items()}


def reset_link(user: Any) -> str:
    """The end of a link for a new password; signing in makes an older one worthless."""
    from allauth.account.forms import default_token_generator
    from allauth.account.utils import user_pk_to_url_str

    return f"{user_pk_to_url_str(user)}-{default_token_generator.make_token(user)}"


def people(workspace: Any, owner: Any, now: Any) -> dict[str, Any]:
    """Invitations, and Rosa: an admin with a second factor and an address that is not confirmed."""
    from allauth.account.models import EmailConfirmationHMAC
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    from apperate.accounts import services

    invited: Any = services.invite(
        workspace=workspace, email="lena@demo.example", role="user", by=owner, now=now
    )
    services.invite(workspace=workspace, email="again@demo.example", role="admin", by=owner, now=now)
    old: Any = services.invite(
        workspace=workspace, email="old@demo.example", role="user", by=owner, now=now - timedelta(days=9)
    )
    rosa: Any = services.create_person(email=ROSA, name="Rosa Diaz", password=PASSWORD)
    other = rosa.emailaddress_set.create(email="rosa.diaz@demo.example")
    member = workspace.memberships.create(user=rosa, role="admin", created_at=now)
    TOTP.activate(rosa, generate_totp_secret())
    codes = RecoveryCodes.activate(rosa)
    return {
        "invitation": last_part(invited.url),
        "old_invitation": last_part(old.url),
        "member": member.pk,
        "recovery_codes": codes.get_unused_codes(),
        "confirmation": EmailConfirmationHMAC(other).key,
    }


def last_part(url: str) -> str:
    return url.rstrip("/").rsplit("/", 1)[1]


def tokens(workspace: Any, owner: Any, now: Any) -> dict[str, str]:
    """The ids of tokens in states of their own."""
    from apperate.demo import tokens as of_demo
    from tokens.alerts import webhook_settings
    from tokens.services import lifecycle

    gone: Any = lifecycle.create_publishable_token(workspace=workspace, by=owner, now=now, nickname="Gone")
    lifecycle.delete_token(token=gone, by=owner, now=now)
    webhook_settings.save(workspace=workspace, url="https://example.com/hook", by=owner, now=now)
    made = {"secret": workspace.tokens.get(kind="secret").public_id}
    names = {"token": of_demo.PUBLIC, "restricted": "Customer websites", "limited": of_demo.NEAR_LIMIT}
    for name, nickname in (names | {"pending": of_demo.SCHEDULED, "disabled": of_demo.DISABLED}).items():
        token = of_demo.find(workspace, nickname)
        assert token is not None, nickname
        made[name] = token.public_id
    return made


def datasets(workspace: Any, owner: Any, now: Any) -> dict[str, Any]:
    """QUOTES with a job that left a line out and a delete that can be taken back; a file that waits."""
    from datasets.jobs import making, uploads
    from datasets.jobs.run import run
    from datasets.records.schema import parse_schema
    from datasets.services import creating, writing
    from datasets.storage import writes

    schema: Any = parse_schema(SCHEMA, {"key": "ticker", "date": "date"})
    quotes: Any = creating.create_dataset(
        workspace=workspace, name="QUOTES", schema=schema, by=owner, now=now, details={"title": "Quotes"}
    )
    for name in ("THROWN_AWAY", "EMPTY"):
        creating.create_dataset(workspace=workspace, name=name, schema=schema, by=owner, now=now)
    workspace.datasets.filter(name="THROWN_AWAY").update(deleted_at=now)
    body = (
        b'[{"ticker":"AAPL","date":"2024-01-02","close":1},{"ticker":"MSFT","date":"2024-01-02","close":2}]'
    )
    writing.write_records(dataset_id=quotes.pk, body=body, replaces=False, now=now)
    making.delete_records(dataset_id=quotes.pk, selection=writes.Selection("MSFT"), token_id=None, now=now)
    job: Any = making.create(
        dataset_id=quotes.pk,
        file=io.BytesIO(CSV),
        options=writing.IngestOptions(replaces=False),
        now=now,
        by=owner,
        file_name="quotes.csv",
        is_queued=False,
    )
    run(job)
    upload: Any = uploads.keep(
        workspace=workspace, by=owner, name="WAITING", file_name="waiting.csv", chunks=[CSV], now=now
    )
    return {"job": job.public_id, "upload": upload.public_id, "deletion": quotes.deletions.get().pk}
