"""Who may do what: every address of the dashboard, opened and posted to by nine kinds of people.

POLICY is the table. A route of the URL resolver without an entry fails, and so does a view whose own
declaration says something else. What the API's routes need is in the table of operations.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver, reverse

from apperate.accounts import services as accounts
from apperate.accounts.models import Role, User, Workspace
from apperate.database.clock import database_now
from datasets.api.urls import ByMethod
from datasets.api.urls import urlpatterns as api_routes
from datasets.jobs import making, uploads
from datasets.services import writing
from datasets.services.writing import IngestOptions
from datasets.storage import writes
from tests.apperate.dashboard.test_shell import routes
from tests.conftest import signed_in
from tests.site.test_whole_site import changes
from tests.support.factories import DatasetFactory, MembershipFactory, TokenFactory, UserFactory

PUBLIC, MEMBER, ADMIN = "public", "member", "admin"
API, OPERATOR = "v1/", "operator/"
PERSON = "account/"
METHODS = ("GET", "POST")
CSV = b"ticker,date,close\nAAPL,2024-01-02,1.5\n"

# Route → who; those of a person's account are below.
POLICY = {
    "": PUBLIC,
    "theme/": PUBLIC,
    "docs/": PUBLIC,
    "docs/errors/": PUBLIC,
    "docs/<slug:slug>/": PUBLIC,
    "livez": PUBLIC,
    "readyz": PUBLIC,
    "join/<str:token>/": PUBLIC,
    "w/switch/<str:name>/": MEMBER,
    "start/": MEMBER,
    "start/sample/": ADMIN,
    "start/token/": ADMIN,
    "team/": MEMBER,
    "team/invite/": ADMIN,
    "team/invitations/<int:pk>/resend/": ADMIN,
    "team/invitations/<int:pk>/withdraw/": ADMIN,
    "team/audit-log/": ADMIN,
    "team/audit-log/export.csv": ADMIN,
    "team/members/<int:pk>/role/": ADMIN,
    "team/members/<int:pk>/remove/": ADMIN,
    "team/workspace/": MEMBER,
    "team/workspace/security/": ADMIN,
    "team/workspace/webhook/": ADMIN,
    "team/workspace/webhook/secret/": ADMIN,
    "team/workspace/webhook/remove/": ADMIN,
    "team/workspace/webhook/test/": ADMIN,
    "tokens/": MEMBER,
    "tokens/new/": ADMIN,
    "tokens/usage/": MEMBER,
    "tokens/usage/export.csv": MEMBER,
    "tokens/<slug:public_id>/": MEMBER,
    "tokens/<slug:public_id>/row/": MEMBER,
    "tokens/<slug:public_id>/state/": MEMBER,
    "tokens/<slug:public_id>/datasets/": MEMBER,
    "tokens/<slug:public_id>/test/": MEMBER,
    "tokens/<slug:public_id>/undo/": ADMIN,
    "tokens/<slug:public_id>/apply-now/": ADMIN,
    "tokens/<slug:public_id>/fix/": ADMIN,
    "tokens/<slug:public_id>/disable/": ADMIN,
    "tokens/<slug:public_id>/enable/": ADMIN,
    "tokens/<slug:public_id>/delete/": ADMIN,
    "tokens/<slug:public_id>/restore/": ADMIN,
    "tokens/<slug:public_id>/rotate/": ADMIN,
    "tokens/<slug:public_id>/duplicate/": ADMIN,
    "tokens/<slug:public_id>/signing-secret/": ADMIN,
    "tokens/<slug:public_id>/reveal/": ADMIN,
    "datasets/": MEMBER,
    "datasets/new/": ADMIN,
    "datasets/new/define/": ADMIN,
    "datasets/new/<str:upload_id>/": ADMIN,
    "datasets/<str:name>/": MEMBER,
    "datasets/<str:name>/docs/": MEMBER,
    "datasets/<str:name>/records/": MEMBER,
    "datasets/<str:name>/records.csv": MEMBER,
    "datasets/<str:name>/schema/": ADMIN,
    "datasets/<str:name>/add/": ADMIN,
    "datasets/<str:name>/details/": ADMIN,
    "datasets/<str:name>/rename/": ADMIN,
    "datasets/<str:name>/delete/": ADMIN,
    "datasets/<str:name>/restore/": ADMIN,
    "datasets/<str:name>/deletions/<int:deletion_id>/restore/": ADMIN,
    "datasets/<str:name>/erase/": ADMIN,
    "datasets/<str:name>/deletions/<int:deletion_id>/erase/": ADMIN,
    "jobs/": MEMBER,
    "jobs/<str:job_id>/": MEMBER,
    "jobs/<str:job_id>/cancel/": ADMIN,
    "jobs/<str:job_id>/retry/": ADMIN,
    "jobs/<str:job_id>/invalid.csv": MEMBER,
}
# Signed out; the rest of account/ is for whoever is signed in, and about nobody else.
ACCOUNT_PUBLIC = {
    "login/", "logout/", "signup/", "inactive/", "password/reset/", "password/reset/done/",
    "password/reset/key/done/", "^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
    "confirm-email/", "confirm-email/<str:key>/", "^confirm-email/(?P<key>[-:\\w]+)/$",
    "login/code/confirm/", "2fa/authenticate/",
}  # fmt: skip
ACCOUNT_SIGNED_IN = {
    "email/", "reauthenticate/", "password/change/", "password/set/", "sessions/", "2fa/",
    "2fa/reauthenticate/", "2fa/totp/activate/", "2fa/totp/deactivate/", "2fa/recovery-codes/",
    "2fa/recovery-codes/generate/", "2fa/recovery-codes/download/",
}  # fmt: skip

# What differs from the rule.
ELSEWHERE = ("other workspace", "admin elsewhere", "user elsewhere")
OF_NO_WORKSPACE = ("operator", "stranger")
ANYBODY_SIGNED_IN = ("owner", "admin", "user", *ELSEWHERE, *OF_NO_WORKSPACE)
EXCEPTIONS = {
    # It shows tokens, or leads to sign-in.
    ("GET", "", "anonymous"): "signs in",
    # An invitation is bound to the address that it was sent to.
    **{(method, "join/<str:token>/", one): "may not" for method in METHODS for one in ANYBODY_SIGNED_IN},
    # Every member sees a token's settings; saving them is for admins.
    ("POST", "tokens/<slug:public_id>/", "user"): "may not",
    # A file that waits to be defined is seen by whoever sent it.
    **{(method, "datasets/new/<str:upload_id>/", "admin"): "finds nothing" for method in METHODS},
}  # fmt: skip


def all_routes() -> dict[str, Any]:
    return dict(routes(get_resolver().url_patterns))


@pytest.mark.check("S14")
def test_every_route_has_an_entry() -> None:
    found = {route for route in all_routes() if not route.startswith((API, OPERATOR))}
    listed = set(POLICY) | {PERSON + route for route in ACCOUNT_PUBLIC | ACCOUNT_SIGNED_IN}

    assert sorted(found - listed) == []
    assert sorted(listed - found) == []


def test_every_view_declares_what_the_table_says() -> None:
    declared = {route: getattr(view, "policy", None) for route, view in all_routes().items()}

    assert {route: declared[route] for route in POLICY} == POLICY


@pytest.mark.check("S14")
def test_every_route_of_the_api_declares_what_it_needs() -> None:
    found = dict(routes(api_routes))
    needs = {
        (route, method): need
        for route, view in found.items()
        for method, need in (view.policy.items() if isinstance(view, ByMethod) else [("", view.policy)])
    }

    assert len(found) > 40
    assert [at for at, need in needs.items() if not need] == []


# --- nine kinds of people --------------------------------------------------------------------------


@pytest.fixture
def fill(
    workspace: Workspace, owner: User, teammate: User, settings: Any, tmp_path: Any
) -> Callable[[str], str]:
    """An address of something that is there: the route with the ids of rows of the workspace."""
    settings.INGEST_DIR = tmp_path
    now = database_now()
    dataset = DatasetFactory(workspace=workspace, name="PRICES")
    DatasetFactory(workspace=workspace, name="GONE", deleted_at=now)
    secret = TokenFactory(workspace=workspace, kind="secret")
    body = b'[{"ticker":"AAPL","date":"2024-01-02"},{"ticker":"MSFT","date":"2024-01-02"}]'
    writing.write_records(dataset_id=dataset.pk, body=body, replaces=False, now=now)
    making.delete_records(dataset_id=dataset.pk, selection=writes.Selection("MSFT"), token_id=None, now=now)
    with (tmp_path / "prices.csv").open("wb+") as file:
        file.write(CSV)
        file.seek(0)
        job: Any = making.create(
            dataset_id=dataset.pk, file=file, options=IngestOptions(), now=now, by=owner, file_name="a.csv"
        )  # fmt: skip
    upload: Any = uploads.keep(
        workspace=workspace, by=owner, name="NEW", file_name="a.csv", chunks=[CSV], now=now
    )  # fmt: skip
    invited: Any = accounts.invite(
        workspace=workspace, email="lena@example.com", role="user", by=owner, now=now
    )
    values = {
        "public_id": TokenFactory(workspace=workspace).public_id,
        "upload_id": upload.public_id,
        "job_id": job.public_id,
        "deletion_id": dataset.deletions.get().pk,
        "token": invited.url.rstrip("/").rsplit("/", 1)[1],
        "slug": "get-started",
    }
    by_route = {
        "tokens/<slug:public_id>/reveal/": {"public_id": secret.public_id},
        "datasets/<str:name>/restore/": {"name": "GONE"},
        "datasets/<str:name>/erase/": {"name": "GONE"},
        "w/": {"name": workspace.name},
        "datasets/": {"name": dataset.name},
        "team/invitations/": {"pk": invited.invitation.pk},
        "team/members/": {"pk": workspace.memberships.get(user=teammate).pk},
    }

    def filled(route: str) -> str:
        more = next((found for start, found in by_route.items() if route.startswith(start)), {})
        return "/" + re.sub(r"<\w+:(\w+)>", lambda name: str((values | more)[name[1]]), route)

    return filled


@pytest.fixture
def people(owner: User, admin: User, teammate: User, outsider: User, stranger: User) -> dict[str, Client]:
    elsewhere = outsider.memberships.get().workspace
    return {
        "owner": signed_in(owner),
        "admin": signed_in(admin),
        "user": signed_in(teammate),
        "other workspace": signed_in(outsider),
        "admin elsewhere": signed_in(MembershipFactory(workspace=elsewhere, role=Role.ADMIN).user),
        "user elsewhere": signed_in(MembershipFactory(workspace=elsewhere, role=Role.USER).user),
        "operator": signed_in(UserFactory(is_staff=True, is_superuser=True)),
        "stranger": signed_in(stranger),
        "anonymous": Client(),
    }


def asked(client: Client, address: str) -> Iterator[tuple[str, Any, list[str]]]:
    """What a GET and a POST of nothing are answered, and what they write; neither leaves anything behind."""
    for method in METHODS:
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            answer = client.generic(method, address)
            transaction.set_rollback(True)
        yield method, answer, [query["sql"] for query in queries.captured_queries if changes(query["sql"])]


def is_sent_to_sign_in(answer: Any) -> bool:
    return answer.status_code == 302 and answer.headers["Location"].startswith(reverse("account_login"))


def expected(policy: str, person: str, *, has_row: bool) -> str:
    if policy == PUBLIC:
        return "may"
    if person == "anonymous":
        return "signs in"
    if person in OF_NO_WORKSPACE:
        return "may not"
    if policy == ADMIN and person in {"user", "user elsewhere"}:
        return "may not"
    return "finds nothing" if person in ELSEWHERE and has_row else "may"


def got(answer: Any) -> str:
    if is_sent_to_sign_in(answer):
        return "signs in"
    return {403: "may not", 404: "finds nothing"}.get(answer.status_code, "may")


@pytest.mark.check("S13")
@pytest.mark.django_db
def test_every_address_answers_each_kind_of_people_as_the_table_says(
    fill: Callable[[str], str], people: dict[str, Client]
) -> None:
    faults = []
    for route, policy in POLICY.items():
        for person, visitor in people.items():
            answers = {
                method: (answer, written)
                for method, answer, written in asked(visitor, fill(route))
                if answer.status_code != 405
            }
            assert answers, f"{route} takes neither GET nor POST"
            wanted = expected(policy, person, has_row="<" in route)
            for method, (answer, written) in answers.items():
                assert answer.status_code < 500, (route, method, person)
                if got(answer) != "may":
                    assert written == [], (route, method, person)
                right = EXCEPTIONS.get((method, route, person), wanted)
                if got(answer) != right:
                    faults.append(f"{method} {route} as {person}: {answer.status_code}, not “{right}”")
    assert faults == [], "\n".join(faults)


@pytest.mark.django_db
def test_an_account_is_for_who_is_signed_in(people: dict[str, Client]) -> None:
    for route in ACCOUNT_SIGNED_IN:
        for method, answer, _ in asked(people["anonymous"], "/" + PERSON + route):
            assert is_sent_to_sign_in(answer), (route, method, answer.status_code)
        for person in ANYBODY_SIGNED_IN:
            for method, answer, _ in asked(people[person], "/" + PERSON + route):
                assert answer.status_code in {200, 302, 404, 405}, (route, method, person)
                assert not is_sent_to_sign_in(answer), (route, method, person)


@pytest.mark.django_db
def test_the_operators_pages_are_for_operators_alone(people: dict[str, Client]) -> None:
    pages = [
        route
        for route in all_routes()
        if route.startswith(OPERATOR) and "<" not in route and "(" not in route
    ]
    assert len(pages) > 10
    opened = set()
    for route in pages:
        for person, visitor in people.items():
            if person == "operator":
                continue
            for _, answer, _ in asked(visitor, "/" + route):
                if answer.status_code == 200:
                    opened.add((route, person))
    assert {route for route, _ in opened} <= {"operator/login/", "operator/jsi18n/", "operator/logout/"}
