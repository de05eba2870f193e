"""The OpenAPI documents: every route and nothing else, the two tables, and what a token may do."""

import json
import re
from typing import Any

import pytest
import schemathesis
from django.urls import URLPattern
from jsonschema_rs import Draft202012Validator

from apperate.accounts.models import Workspace
from apperate.kernel.refusals import REFUSALS
from datasets.api import urls
from datasets.models import Dataset
from datasets.openapi import document as openapi
from datasets.openapi.operation import OF_OTHER_METHODS
from datasets.openapi.operations import OPERATIONS
from datasets.query import parameters
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.rules.token_format import TokenKind

SEGMENTS = {"name": "dataset", "job_id": "jobId", "usage_type": "type", "token_id": "tokenId"}
WHOLE = openapi.whole("https://data.example.com")
Document = dict[str, Any]


def operations_of(document: Document) -> dict[str, dict[str, Any]]:
    """Every operation by method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def template(pattern: URLPattern) -> str:
    """A route as OpenAPI writes it: /data/{workspace}/{dataset}."""
    route = str(pattern.pattern).removeprefix("^").removesuffix("$")
    route = re.sub(r"<segment:(\w+)>", lambda found: f"{{{SEGMENTS.get(found[1], found[1])}}}", route)
    route = re.sub(r"\(\?P<log>([^()]*)\)", r"\1", route)
    return "/" + re.sub(
        r"\(\?P<(\w+)>[^()]*\)", lambda found: f"{{{SEGMENTS.get(found[1], found[1])}}}", route
    )


# --- the whole API ------------------------------------------------------------------------------


@pytest.mark.check("S59")
def test_every_route_is_documented_and_no_other() -> None:
    views: list[tuple[URLPattern, Any]] = [(found, found.callback) for found in urls.urlpatterns]
    served = {
        f"{method} {template(found)}"
        for found, view in views
        if isinstance(view, urls.ByMethod)
        for method in view.views
        if method != "HEAD"
    }

    assert set(operations_of(WHOLE)) == served


@pytest.mark.check("S14")
def test_who_may_is_what_the_route_says() -> None:
    """An operation is documented as public, or for the secret token alone, where its view is."""
    views: list[tuple[URLPattern, Any]] = [(found, found.callback) for found in urls.urlpatterns]
    policies = {
        f"{method} {template(found)}": policy
        for found, view in views
        if isinstance(view, urls.ByMethod)
        for method, policy in view.policy.items()
    }
    words = {"public": {"anyone"}, "secret token": {"secret token"}}

    for operation in OPERATIONS:
        policy = policies[f"{operation.method} {operation.path}"]
        expected = words.get(policy, {"any token", "read", "write", "delete"})
        assert policy is None or operation.who in expected, operation.name


def test_names_are_unique_and_tags_are_listed() -> None:
    named = [found["operationId"] for found in operations_of(WHOLE).values()]

    assert len(set(named)) == len(named)
    assert {tag for found in operations_of(WHOLE).values() for tag in found["tags"]} == {
        tag["name"] for tag in WHOLE["tags"]
    }


def test_the_document_is_valid_openapi_and_its_schemas_are_json_schema() -> None:
    schemathesis.openapi.from_dict(WHOLE).validate()
    for name, schema in WHOLE["components"]["schemas"].items():
        Draft202012Validator({**schema, "components": WHOLE["components"]})
        assert schema, name
    text = json.dumps(WHOLE)
    for kind, name in set(re.findall(r'"#/components/(\w+)/([^"]+)"', text)):
        assert name in WHOLE["components"][kind], name


def test_parameters_are_those_of_the_one_table() -> None:
    for operation in OPERATIONS:
        found = operations_of(WHOLE)[f"{operation.method} {operation.path}"]
        referred = [one["$ref"].split("/")[-1] for one in found.get("parameters", ()) if "$ref" in one]
        assert referred == (list(parameters.of(operation.parameters)) if operation.parameters else [])
    documented = WHOLE["components"]["parameters"]
    assert set(documented) == {found.name for found in parameters.PARAMETERS}
    for parameter in parameters.PARAMETERS:
        said = documented[parameter.name]
        assert parameter.needed in said["description"]
        assert Draft202012Validator(said["schema"]).is_valid(said["example"]), parameter.name
        assert parameter.name == "cursor" or parameter.parse(parameter.example) is not None


def test_every_refusal_is_documented_with_its_status() -> None:
    documented: dict[str, int] = {}
    for name, response in WHOLE["components"]["responses"].items():
        content = response["content"]["application/problem+json"]
        only = content["schema"]["allOf"][1]["properties"]
        assert name.startswith(f"Refused{only['status']['const']}")
        problem = Draft202012Validator(
            {**WHOLE["components"]["schemas"]["Problem"], "components": WHOLE["components"]}
        )
        for code in only["code"]["enum"]:
            documented[code] = only["status"]["const"]
            assert problem.is_valid(content["examples"][code]["value"])

    assert documented == {
        code: status for code, (status, _) in REFUSALS.items() if code not in OF_OTHER_METHODS
    }
    assert "405 method-not-allowed" in WHOLE["info"]["description"]


def test_servers_and_security_are_those_of_the_installation() -> None:
    assert WHOLE["servers"] == [{"url": "https://data.example.com/v1"}]
    assert {scheme["type"] for scheme in WHOLE["components"]["securitySchemes"].values()} == {
        "http",
        "apiKey",
    }
    without = {name for name, found in operations_of(WHOLE).items() if found.get("security") == []}
    assert without == {"GET /status", "GET /openapi-doc"}


# --- over HTTP ----------------------------------------------------------------------------------


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES", title="Daily prices", description="Closing.")


def get(api: DataPlaneClient, path: str, token: str = "", headers: Any = ()) -> Reply:
    return api.request("GET", f"/v1/{path}{f'?token={token}' if token else ''}", headers=headers)


@pytest.mark.django_db(transaction=True)
def test_the_whole_document_needs_no_token_and_is_not_sent_twice(api: DataPlaneClient) -> None:
    first = get(api, "openapi-doc")
    again = get(api, "openapi-doc", headers={"If-None-Match": first.headers["etag"]})
    packed = get(api, "openapi-doc", headers={"Accept-Encoding": "gzip"})

    assert (first.status, first.headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert first.json()["openapi"] == "3.1.0"
    assert (again.status, again.body) == (304, b"")
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(first.body) / 5
    assert "max-age" in first.headers["cache-control"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("grants", "methods"),
    [
        ("read", {"GET"}),
        ("read write", {"GET", "POST"}),
        ("read delete", {"GET", "DELETE"}),
        ("read write delete", {"GET", "POST", "DELETE"}),
    ],
)
def test_a_datasets_document_has_only_what_the_token_may_do(
    api: DataPlaneClient, workspace: Workspace, prices: Dataset, grants: str, methods: set[str]
) -> None:
    token = TokenFactory(workspace=workspace, settings__grants={prices: grants})

    reply = get(api, "openapi-doc/acme/prices", token.test_value)

    document = reply.json()
    assert reply.status == 200, reply.body
    assert reply.headers["iexcloud-credits-used"] == "0"
    assert {method.upper() for path in document["paths"].values() for method in path} == methods
    assert ("/jobs/ACME/ingest" in document["paths"]) == ("write" in grants)
    assert not any("{dataset}" in path or "{workspace}" in path for path in document["paths"])
    assert not any("secret token" in found["description"] for found in operations_of(document).values())
    schemathesis.openapi.from_dict(document).validate()


@pytest.mark.django_db(transaction=True)
def test_a_datasets_document_tells_its_schema_and_index(
    api: DataPlaneClient, workspace: Workspace, prices: Dataset
) -> None:
    secret = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)

    document = get(api, "openapi-doc/ACME/PRICES", secret.test_value).json()

    new, read = (document["components"]["schemas"][name] for name in ("NewRecord", "Record"))
    assert document["info"]["title"] == "Daily prices"
    assert "The key of a record is `ticker`." in document["info"]["description"]
    assert new["required"] == ["ticker", "date"]
    assert new["properties"]["ticker"]["x-apperate-index"] == "key"
    assert new["properties"]["date"]["format"] == "date"
    assert new["properties"]["close"]["type"] == ["number", "null"]
    assert "required" not in read
    assert document["components"]["parameters"]["dateField"]["schema"]["enum"] == ["date"]
    assert "DELETE /datasets/ACME/PRICES" in operations_of(document)
    assert "GET /data/ACME/PRICES/{key}/{subkey}" not in operations_of(document)


@pytest.mark.django_db(transaction=True)
def test_a_datasets_document_is_for_tokens_that_read_it(
    api: DataPlaneClient, workspace: Workspace, prices: Dataset
) -> None:
    """What a token may not read, it cannot tell from what does not exist."""
    foreign = DatasetFactory(workspace=WorkspaceFactory(name="ELSEWHERE"), name="PRICES")
    writer = TokenFactory(workspace=workspace, settings__grants={prices: "write delete"})

    missing = get(api, "openapi-doc/ACME/PRICES")
    unread = get(api, "openapi-doc/ACME/PRICES", writer.test_value)
    absent = get(api, "openapi-doc/ACME/NOSUCH", writer.test_value)
    elsewhere = get(api, f"openapi-doc/ELSEWHERE/{foreign.name}", writer.test_value)

    assert (missing.status, missing.code) == (401, "token-missing")
    for reply in (unread, absent, elsewhere):
        assert (reply.status, reply.code) == (403, "dataset-not-granted")
    for reply in (unread, absent):
        assert b"ticker" not in reply.body


@pytest.mark.django_db(transaction=True)
def test_the_document_of_a_core_dataset_has_the_properties_of_the_platform(
    api: DataPlaneClient, workspace: Workspace
) -> None:
    DatasetFactory(workspace=WorkspaceFactory(name="CORE"), name="PRICES", credits_per_record=1)
    secret = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)

    document = get(api, "openapi-doc/CORE/PRICES", secret.test_value).json()

    assert {"id", "key", "subkey", "updated"} <= set(
        document["components"]["schemas"]["Record"]["properties"]
    )
    assert "Reading a record costs 1 in credits." in document["info"]["description"]
    assert {method for path in document["paths"].values() for method in path} == {"get"}
