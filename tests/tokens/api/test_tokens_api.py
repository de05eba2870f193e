"""The Tokens API: what the workspace's secret token reads and changes of the tokens, and GET /v1/token."""

import json
from datetime import timedelta
from typing import Any

import pytest

from apperate.accounts.models import AuditEvent, KeptAnswer, Workspace
from apperate.database.clock import database_now
from datasets.models import Dataset
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import LONG_AGO, DatasetFactory, TokenFactory, WorkspaceFactory
from tests.support.installation import until
from tokens.gate import refusal_log
from tokens.models import CreditWindow, Revision, Token, TokenRefusal, UsageCounter
from tokens.rules import token_format
from tokens.rules.token_format import TokenKind

pytestmark = pytest.mark.django_db(transaction=True)

DEFAULTS = {
    "signedRequests": False,
    "coreDataAccess": True,
    "premiumDataAccess": False,
    "datasets": {},
    "allDatasets": [],
    "allowedDomains": [],
    "domainsReportOnly": False,
    "coreCreditLimit": None,
    "requestsPerSecond": None,
    "burst": None,
}


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def secret(workspace: Workspace) -> Token:
    return TokenFactory(workspace=workspace, kind=TokenKind.SECRET, nickname="")


@pytest.fixture
def app(workspace: Workspace, prices: Dataset) -> Token:
    """A publishable token whose settings are in force."""
    return TokenFactory(
        workspace=workspace,
        nickname="App",
        settings__grants={prices: "read"},
        settings__core_credit_limit=100,
    )


class Caller:
    """Sends JSON with a token, to paths below /v1."""

    def __init__(self, api: DataPlaneClient, value: str) -> None:
        self.api, self.value = api, value

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        sent = {"X-API-Key": self.value} | {name.replace("_", "-"): text for name, text in headers.items()}
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.api.request(method, f"/v1/{path}", body=raw, headers=sent)


@pytest.fixture
def call(api: DataPlaneClient, secret: Token) -> Caller:
    return Caller(api, secret.test_value)


def ok(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    return reply.json()


def refused(reply: Reply, status: int = 400, code: str = "invalid-values") -> dict[str, Any]:
    assert (reply.status, reply.code) == (status, code), reply.body
    return dict(reply.json())


def audited() -> list[str]:
    return list(AuditEvent.objects.order_by("pk").values_list("action", flat=True))


def put_in_force(public_id: str) -> None:
    """As if the activation delay were long over: a worker's clock may be a little behind the database's."""
    Revision.objects.filter(token__public_id=public_id).update(saved_at=LONG_AGO, effective_at=LONG_AGO)


# --- reading -------------------------------------------------------------------------------------


def test_tokens_are_listed_oldest_first_and_in_pages(
    call: Caller, workspace: Workspace, secret: Token, app: Token
) -> None:
    newest = ok(call("POST", "tokens", {"nickname": "Newest"}))
    gone = TokenFactory(workspace=workspace, deleted_at=database_now())
    TokenFactory(workspace=WorkspaceFactory(), nickname="Foreign")
    ids = [secret.public_id, app.public_id, newest["id"]]

    first = call("GET", "tokens?limit=2")
    second = call("GET", f"tokens?limit=2&cursor={first.headers['apperate-next-cursor']}")

    assert [one["id"] for one in ok(call("GET", "tokens"))] == ids
    assert [one["id"] for one in [*ok(first), *ok(second)]] == ids
    assert 'rel="next"' in first.headers["link"]
    assert "apperate-next-cursor" not in second.headers
    assert [one["id"] for one in ok(call("GET", "tokens?trash=true"))] == [gone.public_id]


def test_a_token_is_told_whole_and_the_secret_one_masked(call: Caller, secret: Token, app: Token) -> None:
    CreditWindow.objects.create(token=app, month=database_now().date().replace(day=1), used=30)

    found, own = ok(call("GET", f"tokens/{app.public_id}")), call("GET", f"tokens/{secret.public_id}")

    assert found["usage"].pop("resetsAt").endswith("-01T00:00:00Z")
    assert found == {
        "id": app.public_id,
        "type": "publishable",
        "nickname": "App",
        "token": app.test_value,
        "status": "active",
        "createdAt": "2026-01-01T00:00:00Z",
        "createdBy": None,
        "lastUsedAt": None,
        "expiresAt": None,
        "settings": DEFAULTS | {"datasets": {"PRICES": ["read"]}, "coreCreditLimit": 100},
        "pending": None,
        "usage": {"creditsUsed": 30, "creditsRemaining": 70},
    }
    assert ok(own)["token"] == token_format.mask(secret.test_value)
    assert secret.test_value.encode() not in own.body


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=no", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=WzEsMiwzXQ", "cursor"),
        ("trash=maybe", "trash"),
    ],
)
def test_a_bad_parameter_of_the_list_is_named(call: Caller, query: str, name: str) -> None:
    assert name in refused(call("GET", f"tokens?{query}"))["detail"]


# --- creating and editing ------------------------------------------------------------------------


def test_a_token_is_created_and_waits_for_its_activation(call: Caller, prices: Dataset) -> None:
    body = {
        "nickname": "  Customer  XYZ ",
        "expiresAt": "2099-01-31T18:00:00+02:00",
        "settings": {"datasets": {"prices": ["write", "read"]}, "allowedDomains": ["www.example.com"]},
    }

    made = ok(call("POST", "tokens", body))

    assert (made["nickname"], made["status"]) == ("Customer XYZ", "activating")
    assert made["expiresAt"] == "2099-01-31T16:00:00Z"
    assert made["settings"] is None
    assert made["pending"]["settings"]["datasets"] == {"PRICES": ["read", "write"]}
    assert made["pending"]["settings"]["allowedDomains"] == ["www.example.com"]
    assert token_format.parse(made["token"])
    assert audited() == ["token.created", "token.expiry_set"]
    assert made["token"] not in str(list(AuditEvent.objects.values_list("before", "after")))
    app = Caller(call.api, made["token"])
    refused(app("GET", "token"), 403, "not-active-yet")
    put_in_force(made["id"])
    found = ok(call("GET", f"tokens/{made['id']}"))
    assert (found["status"], found["settings"]) == ("active", made["pending"]["settings"])


def test_an_empty_body_creates_a_token_that_reads_core_from_anywhere(call: Caller) -> None:
    made = ok(call("POST", "tokens"))

    assert made["pending"]["settings"] == DEFAULTS


def test_an_old_value_is_brought_along_once(call: Caller) -> None:
    value = "pk_0123456789abcdef0123456789abcdef"

    assert ok(call("POST", "tokens", {"importValue": value}))["token"] == value
    assert "no token has yet" in refused(call("POST", "tokens", {"importValue": value}))["needed"]
    assert Token.objects.filter(kind=TokenKind.PUBLISHABLE).count() == 1


def test_settings_are_merged_field_by_field_and_wait(call: Caller, app: Token) -> None:
    first = ok(call("PATCH", f"tokens/{app.public_id}", {"settings": {"requestsPerSecond": 5}}))
    second = ok(call("PATCH", f"tokens/{app.public_id}", {"settings": {"coreCreditLimit": None}}))

    in_force = DEFAULTS | {"datasets": {"PRICES": ["read"]}, "coreCreditLimit": 100}
    assert first["status"] == "pending"
    assert first["settings"] == second["settings"] == in_force
    assert first["pending"]["settings"] == in_force | {"requestsPerSecond": 5}
    assert second["pending"]["settings"] == in_force | {"requestsPerSecond": 5, "coreCreditLimit": None}
    assert second["pending"]["effectiveAt"] > second["createdAt"]
    assert audited() == ["token.settings_saved"] * 2


def test_nickname_and_expiry_act_at_once_and_null_ends_an_expiry(call: Caller, app: Token) -> None:
    path = f"tokens/{app.public_id}"

    named = ok(call("PATCH", path, {"nickname": "New", "expiresAt": "2020-01-01T00:00:00Z"}))
    kept = ok(call("PATCH", path, {"expiresAt": None}))

    assert (named["nickname"], named["status"], named["pending"]) == ("New", "expired", None)
    assert (kept["nickname"], kept["status"], kept["expiresAt"]) == ("New", "active", None)
    assert audited() == ["token.renamed", "token.expiry_set", "token.expiry_set"]


def test_everything_of_a_body_is_saved_or_nothing(call: Caller, workspace: Workspace, app: Token) -> None:
    workspace.plan = "launch"
    workspace.save()

    reply = call(
        "PATCH", f"tokens/{app.public_id}", {"nickname": "New", "settings": {"signedRequests": True}}
    )

    refused(reply, 403, "plan-required")
    assert ok(call("GET", f"tokens/{app.public_id}"))["nickname"] == "App"
    assert audited() == []


BAD = [
    ({"colour": 1}, "colour"),
    ({"id": "tok_1"}, "id"),
    ({"token": "pk_1"}, "token"),
    ({"status": "active", "usage": {}}, "status"),
    ({"nickname": 5}, "nickname"),
    ({"nickname": "x" * 61}, "nickname"),
    ({"nickname": "a\u0000b"}, "nickname"),
    ({"expiresAt": "soon"}, "expiresAt"),
    ({"expiresAt": 5}, "expiresAt"),
    ({"expiresAt": "0001-01-01T00:00:00+14:00"}, "expiresAt"),
    ({"settings": []}, "settings"),
    ({"settings": {"colour": 1}}, "settings.colour"),
    ({"settings": {"signedRequests": "yes"}}, "settings.signedRequests"),
    ({"settings": {"coreCreditLimit": -1}}, "settings.coreCreditLimit"),
    ({"settings": {"coreCreditLimit": True}}, "settings.coreCreditLimit"),
    ({"settings": {"requestsPerSecond": 0}}, "settings.requestsPerSecond"),
    ({"settings": {"burst": 1.5}}, "settings.burst"),
    ({"settings": {"allDatasets": ["own"]}}, "settings.allDatasets"),
    ({"settings": {"allDatasets": [["read"]]}}, "settings.allDatasets"),
    ({"settings": {"allowedDomains": ["a b"]}}, "settings.allowedDomains"),
    ({"settings": {"allowedDomains": "example.com"}}, "settings.allowedDomains"),
    ({"settings": {"datasets": {"NOSUCH": ["read"]}}}, "settings.datasets"),
    ({"settings": {"datasets": {"FOREIGN": ["read"]}}}, "settings.datasets"),
    ({"settings": {"datasets": {"\ud800\u0000": ["read"]}}}, "settings.datasets"),
    ({"settings": {"datasets": {"PRICES": "read"}}}, "settings.datasets"),
    ({"\ud800": 1}, "\ud800"),
]


@pytest.mark.check("S15")
def test_a_bad_field_is_named_and_nothing_is_changed(call: Caller, app: Token) -> None:
    DatasetFactory(workspace=WorkspaceFactory(), name="FOREIGN")

    for body, field in BAD:
        for method, path in ("POST", "tokens"), ("PATCH", f"tokens/{app.public_id}"):
            said = refused(call(method, path, body))
            assert field in {error["field"] for error in said["errors"]}, (body, said)

    assert Token.objects.filter(kind=TokenKind.PUBLISHABLE).count() == 1
    assert audited() == []


def test_all_bad_fields_are_named_at_once(call: Caller, app: Token) -> None:
    said = refused(call("PATCH", f"tokens/{app.public_id}", {"id": 1, "nickname": 2, "importValue": "pk_1"}))

    assert [error["field"] for error in said["errors"]] == ["id", "importValue", "nickname"]
    assert "read-only" in said["errors"][0]["needed"]


def test_a_body_that_is_no_object_is_400(call: Caller, app: Token) -> None:
    one = f"tokens/{app.public_id}"

    for body in b"[]", b"5", b"{", b"\xff", b'{"nickname":"a","nickname":"b"}', b"[object Object]":
        for method, path in (
            ("POST", "tokens"),
            ("PATCH", one),
            ("POST", f"{one}/rotate"),
            ("POST", f"{one}/disable"),
        ):
            refused(call(method, path, body))
    assert audited() == []


# --- what acts at once ---------------------------------------------------------------------------


def test_a_token_is_disabled_enabled_deleted_and_restored(call: Caller, app: Token) -> None:
    path = f"tokens/{app.public_id}"

    assert ok(call("POST", f"{path}/disable"))["status"] == "disabled"
    assert ok(call("POST", f"{path}/enable", {}))["status"] == "active"
    assert ok(call("DELETE", path))["success"] is True
    assert ok(call("GET", path))["status"] == "deleted"
    assert app.public_id not in {one["id"] for one in ok(call("GET", "tokens"))}
    assert "outside the trash" in refused(call("PATCH", path, {"nickname": "New"}))["needed"]
    refused(call("POST", f"{path}/rotate"))
    refused(call("POST", f"{path}/duplicate"))
    assert ok(call("POST", f"{path}/restore"))["status"] == "active"
    assert audited() == ["token.disabled", "token.enabled", "token.deleted", "token.restored"]


def test_what_is_pending_is_applied_or_dropped(call: Caller, app: Token) -> None:
    path = f"tokens/{app.public_id}"
    refused(call("POST", f"{path}/apply-now"))
    refused(call("POST", f"{path}/undo"))

    call("PATCH", path, {"settings": {"burst": 7}})
    undone = ok(call("POST", f"{path}/undo"))
    call("PATCH", path, {"settings": {"burst": 8}})
    applied = ok(call("POST", f"{path}/apply-now"))

    assert (undone["settings"]["burst"], undone["pending"]) == (None, None)
    assert (applied["settings"]["burst"], applied["pending"]) == (8, None)
    assert audited()[1::2] == ["token.change_undone", "token.change_applied"]


def test_a_copy_has_the_settings_and_another_value(call: Caller, app: Token) -> None:
    copy = ok(call("POST", f"tokens/{app.public_id}/duplicate"))

    assert copy["id"] != app.public_id
    assert copy["token"] != app.test_value
    assert copy["nickname"] == "Copy of App"
    assert copy["pending"]["settings"] == ok(call("GET", f"tokens/{app.public_id}"))["settings"]


def test_a_rotated_token_has_a_new_value_and_the_old_one_ends(call: Caller, app: Token) -> None:
    reply = call("POST", f"tokens/{app.public_id}/rotate", {"overlapSeconds": 3_600})

    rotated = ok(reply)
    assert reply.headers["cache-control"] == "no-store"
    assert rotated["token"] != app.test_value
    assert rotated["oldValueEndsAt"] > rotated["createdAt"]
    for value in app.test_value, rotated["token"]:
        assert ok(Caller(call.api, value)("GET", "token"))["id"] == app.public_id
    assert ok(call("POST", f"tokens/{app.public_id}/rotate", {"overlapSeconds": 0}))
    assert audited() == ["token.rotated"] * 2


def test_the_secret_token_is_rotated_and_its_new_value_is_told_once(call: Caller, secret: Token) -> None:
    path = f"tokens/{secret.public_id}"

    rotated = ok(call("POST", f"{path}/rotate", Idempotency_Key="once"))

    assert rotated["token"].startswith("sk_")
    assert ok(Caller(call.api, rotated["token"])("GET", path))["token"] == token_format.mask(rotated["token"])
    refused(call("POST", f"{path}/rotate", Idempotency_Key="once"), 409, "already-done")
    assert secret.secrets.count() == 2
    kept = str(list(KeptAnswer.objects.values_list("answer", flat=True)))
    told = str(list(AuditEvent.objects.values_list("before", "after")))
    for value in secret.test_value, rotated["token"]:
        assert value not in kept + told


def test_a_bad_overlap_is_refused(call: Caller, app: Token) -> None:
    for body in {"overlapSeconds": 5}, {"overlapSeconds": "0"}, {"overlapSeconds": True}, {"x": 1}:
        refused(call("POST", f"tokens/{app.public_id}/rotate", body))
    assert app.secrets.count() == 1


def test_of_the_secret_token_the_nickname_alone_is_edited(call: Caller, secret: Token) -> None:
    path = f"tokens/{secret.public_id}"

    assert ok(call("PATCH", path, {"nickname": "Ours"}))["nickname"] == "Ours"
    for body in {"settings": {"burst": 5}}, {"expiresAt": None}:
        refused(call("PATCH", path, body))
    refused(call("DELETE", path))
    refused(call("POST", f"{path}/duplicate"))
    assert audited() == ["token.renamed"]


def test_a_plan_has_room_for_so_many_tokens(call: Caller, workspace: Workspace, app: Token) -> None:
    gone = TokenFactory(workspace=workspace, deleted_at=database_now())
    workspace.plan = "launch"
    workspace.save()

    for path in "tokens", f"tokens/{app.public_id}/duplicate", f"tokens/{gone.public_id}/restore":
        refused(call("POST", path), 403, "plan-required")
    assert Token.objects.filter(deleted_at=None).count() == 2
    assert audited() == []


# --- who may, and what does not exist ------------------------------------------------------------

ONE = [
    ("GET", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("POST", "/rotate"),
    ("GET", "/refusals"),
    ("GET", "/usage"),
] + [("POST", f"/{what}") for what in ("apply-now", "undo", "disable", "enable", "restore", "duplicate")]


def test_only_the_workspaces_own_secret_token_may(call: Caller, api: DataPlaneClient, app: Token) -> None:
    foreign = Caller(api, TokenFactory(workspace=WorkspaceFactory(), kind=TokenKind.SECRET).test_value)
    own = Caller(api, app.test_value)

    for method, what in ONE:
        path = f"tokens/{app.public_id}{what}"
        missing = refused(call(method, f"tokens/tok_missing{what}", b"{}"), 404, "not-found")
        hidden = refused(foreign(method, path, b"{}"), 404, "not-found")
        for word in "title", "detail", "needed":
            assert hidden[word] == missing[word]
        refused(own(method, path, b"{}"), 401, "secret-required")
        refused(call(method, f"tokens/%00{what}", b"{}"), 404, "not-found")
        refused(call(method, path, b"{}", Origin="https://a.example"), 403, "secret-in-browser")
    for method in "GET", "POST":
        refused(own(method, "tokens"), 401, "secret-required")
    assert audited() == []


# --- Idempotency-Key -----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["", "/duplicate"])
def test_a_repeated_create_makes_one_token_and_its_value_is_not_kept(
    call: Caller, app: Token, what: str
) -> None:
    path = f"tokens/{app.public_id}{what}" if what else "tokens"
    first, second = (call("POST", path, {}, Idempotency_Key="k1") for _ in range(2))

    assert ok(first) == ok(second)
    assert Token.objects.filter(kind=TokenKind.PUBLISHABLE).count() == 2
    assert ok(first)["token"] not in KeptAnswer.objects.get().answer
    refused(call("POST", path, {"nickname": "Other"}, Idempotency_Key="k1"), 422, "other-body")


# --- who am I, and what was used -----------------------------------------------------------------


def test_any_token_may_ask_who_it_is(
    api: DataPlaneClient, app: Token, secret: Token, workspace: Workspace
) -> None:
    found = ok(Caller(api, app.test_value)("GET", "token"))

    assert found["usage"].pop("resetsAt")
    assert found == {
        "workspace": "ACME",
        "id": app.public_id,
        "type": "publishable",
        "nickname": "App",
        "status": "active",
        "createdAt": "2026-01-01T00:00:00Z",
        "lastUsedAt": None,
        "expiresAt": None,
        "settings": DEFAULTS | {"datasets": {"PRICES": ["read"]}, "coreCreditLimit": 100},
        "pending": None,
        "usage": {"creditsUsed": 0, "creditsRemaining": 100},
    }
    own = ok(Caller(api, secret.test_value)("GET", "token"))
    assert (own["id"], own["type"]) == (secret.public_id, "secret")


def test_the_domain_rules_hold_for_it_too(api: DataPlaneClient, workspace: Workspace) -> None:
    limited = TokenFactory(workspace=workspace, settings__allowed_domains=["www.example.com"])
    ask = Caller(api, limited.test_value)

    refused(ask("GET", "token"), 401, "domain-not-allowed")
    assert ok(ask("GET", "token", Origin="https://www.example.com"))["settings"]["allowedDomains"] == [
        "www.example.com"
    ]


def test_usage_is_told_by_day_and_one_thing_more(call: Caller, app: Token, prices: Dataset) -> None:
    today = database_now().replace(hour=0, minute=0, second=0, microsecond=0)

    def used(days: int, **columns: Any) -> None:
        facts = {"dataset_id": prices.pk, "operation": "read", "outcome": "ok", "records": 0} | columns
        UsageCounter.objects.create(token_id=app.pk, minute=today - timedelta(days=days), **facts)

    used(1, calls=3, records=5, credits=5, core_credits=2)
    used(1, calls=2, outcome="rate-limited")
    used(0, calls=1, dataset_id=0)
    used(400, calls=9)
    path = f"tokens/{app.public_id}/usage"
    yesterday = f"{today - timedelta(days=1):%Y-%m-%d}"

    by_day = ok(call("GET", path))
    by_dataset = ok(call("GET", f"{path}?range=7d&by=dataset"))
    by_outcome = ok(call("GET", f"{path}?range=7d&by=OUTCOME"))

    assert (by_day["range"], by_day["by"]) == ("30d", "day")
    assert by_day["series"] == [
        {"date": yesterday, "calls": 5, "refused": 2, "records": 5, "credits": 5, "coreCredits": 2},
        {"date": f"{today:%Y-%m-%d}", "calls": 1, "refused": 0, "records": 0, "credits": 0, "coreCredits": 0},
    ]
    assert [(row["dataset"], row["calls"]) for row in by_dataset["series"]] == [("ACME/PRICES", 5), (None, 1)]
    assert [(row["outcome"], row["calls"]) for row in by_outcome["series"]] == [
        ("ok", 3), ("rate-limited", 2), ("ok", 1),
    ]  # fmt: skip
    for query in "range=soon", "by=colour":
        refused(call("GET", f"{path}?{query}"))


# --- the last refusals ---------------------------------------------------------------------------


def test_refusals_are_told_by_code_dataset_and_site(
    call: Caller, workspace: Workspace, prices: Dataset, app: Token
) -> None:
    other = DatasetFactory(workspace=workspace, name="OTHER")
    foreign = DatasetFactory(workspace=WorkspaceFactory(name="ELSEWHERE"), name="FOREIGN")
    ask, page = Caller(call.api, app.test_value), "https://shop.example/cart?secret=1"
    for _ in range(2):
        refused(ask("GET", "data/ACME/OTHER/A", Referer=page), 403, "dataset-not-granted")
    refused(ask("GET", "data/ELSEWHERE/FOREIGN/A"), 403, "dataset-not-granted")
    refused(ask("GET", "data/ELSEWHERE/NOSUCH/A"), 403, "dataset-not-granted")
    refused(ask("GET", "data/ACME/PRICES/A?limit=no"))
    until(lambda: sum(TokenRefusal.objects.values_list("calls", flat=True)) == 5)

    reply = call("GET", f"tokens/{app.public_id}/refusals")

    found = {(one["code"], one["dataset"], one["site"]): one["calls"] for one in ok(reply)}
    assert found == {
        ("dataset-not-granted", "ACME/OTHER", "shop.example"): 2,
        ("dataset-not-granted", None, None): 2,
        ("invalid-values", "ACME/PRICES", None): 1,
    }
    for one in ok(reply):
        assert one["title"] and one["firstAt"] <= one["lastAt"]
    for hidden in b"secret=1", b"FOREIGN", app.test_value.encode():
        assert hidden not in reply.body
    stored = set(TokenRefusal.objects.values_list("dataset_id", flat=True))
    assert other.pk in stored
    assert foreign.pk not in stored


def test_the_rows_of_a_token_are_bounded_and_go_after_30_days(call: Caller, app: Token) -> None:
    now = database_now()

    async def many() -> None:
        for number in range(refusal_log.KINDS_PER_TOKEN + 5):
            refusal_log.refusals.note(
                app.pk, code="domain-not-allowed", dataset_id=0, origin=f"https://a{number}.example",
                referer=None, now=now + timedelta(seconds=number),
            )  # fmt: skip
        await refusal_log.refusals.flush()

    call.api.run(many())

    sites = [one["site"] for one in ok(call("GET", f"tokens/{app.public_id}/refusals"))]

    last = refusal_log.KINDS_PER_TOKEN - 1
    assert sites == [f"a{last - number}.example" for number in range(refusal_log.ROWS_PER_CODE)]
    assert refusal_log.purge(now=now + timedelta(days=30)) == 0
    assert refusal_log.purge(now=now + timedelta(days=31)) == refusal_log.ROWS_PER_CODE
