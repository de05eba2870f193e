"""S15: every field of every model, sent with every write of the API, is refused and changes nothing."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps

from apperate.accounts.models import Workspace
from datasets.models import Dataset
from tests.datasets.api.test_foreign_tokens import rows
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory
from tokens.models import Token

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.check("S15")]

MODELS = [
    *apps.get_app_config("accounts").get_models(), *apps.get_app_config("datasets").get_models(),
    *apps.get_app_config("tokens").get_models(),
]  # fmt: skip
VALUES = (1, True, "admin", None)
# What each write takes, as docs/api.md says; these are not tried here.
TAKEN = {
    "token": {"nickname", "settings", "expiresAt", "importValue"},
    "settings": {
        "allDatasets", "datasets", "allowedDomains", "coreDataAccess", "premiumDataAccess", "coreCreditLimit",
        "signedRequests", "requestsPerSecond", "burst", "premiumCreditLimit",
    },
    "dataset": {
        "datasetId", "title", "description", "source", "email", "schema", "columnMapping", "name", "key",
        "smartLinkAttributes",
    },
}  # fmt: skip


def names() -> set[str]:
    """The names of all fields, as columns are named and as JSON names them, and some that frameworks take."""
    fields = {field.name for model in MODELS for field in model._meta.get_fields()}
    fields |= {f"{field.name}_id" for model in MODELS for field in model._meta.concrete_fields}
    fields |= {
        "is_staff",
        "is_superuser",
        "pk",
        "__proto__",
        "constructor",
        "account",
        "used_credits",
        "role",
    }
    return fields | {re.sub(r"_(\w)", lambda found: found[1].upper(), name) for name in fields}


def batched(found: list[str]) -> Iterator[list[str]]:
    """As many at a time as a refusal names."""
    for start in range(0, len(found), 20):
        yield found[start : start + 20]


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def app(workspace: Workspace) -> Token:
    return TokenFactory(workspace=workspace)


@pytest.fixture
def writes(workspace: Workspace, prices: Dataset, app: Token) -> list[tuple[str, str, str, Any]]:
    """Every write that takes a document: method, path, what is in it, and how a field is put into it."""
    one = f"tokens/{app.public_id}"
    return [
        ("POST", "tokens", "token", lambda field: field),
        ("PATCH", one, "token", lambda field: field),
        ("PATCH", one, "settings", lambda field: {"settings": field}),
        *((("POST", f"{one}/{act}", "token", lambda field: field)) for act in ("rotate", "disable", "undo")),
        ("PATCH", "datasets/ACME/PRICES", "dataset", lambda field: {"dataset": field}),
        ("POST", "datasets/ACME/PRICES", "dataset", lambda field: {"dataset": field}),
    ]


def test_no_field_of_a_model_can_be_set_by_naming_it(
    api: DataPlaneClient, workspace: Workspace, writes: list[tuple[str, str, str, Any]]
) -> None:
    headers = {"X-API-Key": TokenFactory(workspace=workspace, kind="secret").test_value}
    before = rows()
    taken, tried = [], 0
    for method, path, what, put in writes:
        for some in batched(sorted(names() - TAKEN[what])):
            body = json.dumps(put({name: VALUES[len(name) % len(VALUES)] for name in some})).encode()
            reply = api.request(method, f"/v1/{path}", body=body, headers=headers)
            tried += len(some)
            said = reply.body.decode()
            if reply.status != 400:
                taken.append(f"{method} {path} {some}: {reply.status} {said[:200]}")

    assert taken == [], "\n".join(taken)
    assert tried > 1_000
    assert rows() == before


def test_a_record_with_fields_of_a_model_is_data_or_is_refused(
    api: DataPlaneClient, prices: Dataset, workspace: Workspace
) -> None:
    """In a record these names are properties: of one schema, and never of a table."""
    headers = {"X-API-Key": TokenFactory(workspace=workspace, kind="secret").test_value}
    before = rows()
    for some in batched(sorted(names() - {"ticker", "date", "close", "volume"})):
        record = {"ticker": "AAPL", "date": "2024-01-02"} | dict.fromkeys(some, 1)
        reply = api.post("/v1/record/ACME/PRICES", record, headers=headers)
        assert (reply.status, reply.code) == (400, "invalid-values"), some
    assert rows() == before
