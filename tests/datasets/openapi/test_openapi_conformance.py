"""Schemathesis sends what the OpenAPI documents allow, and what they do not, and compares the answers.

No 5xx, and no status, code, content type, header or body that is not documented: with the secret token, with
a publishable one, and without any. The data is made up by Hypothesis, the same in every run.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from django.conf import LazySettings
from django.db import connection
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.transport import Response

from apperate.accounts.models import Workspace
from datasets.api import job_documents
from datasets.models import Dataset
from datasets.openapi import document as openapi
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.gate.failed_values import failed_values
from tokens.rules.token_format import TokenKind

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # Schemathesis draws from `random` in a strategy of its own.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]
load_all_checks()
CHECKED = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "allow_header_conformance",
    ]
)
# Left out, each for its reason:
# - ignored_auth, unsupported_method: they send requests of their own over a network, which is not there; the
#   two tests at the end ask the same of every path.
# - negative_data_rejection: older clients are forgiven `limit=undefined`, `null`, empty and repeated values.
# - positive_data_acceptance: that a text is a date or a condition is said in words, not in its schema.
# - missing_required_header: no header is required. use_after_free, ensure_resource_availability: each
#   request here stands alone. object_level_authorization: tests/tokens/gate/test_access.py.
OF_TRANSPORT = {"content-type", "content-length", "connection"}
CONFIG = {"generation": {"with-security-parameters": False}}
EXAMPLES = 4  # of each kind for each operation; with 60 it takes minutes and found no more
# These take the dataset away from all that come after them.
LAST = ("deleteDataset", "renameDataset")
RECORDS = (
    b'[{"ticker":"AAPL","date":"2024-01-02","close":1.5,"volume":10},{"ticker":"B","date":"2024-01-03"}]'
)
Call = Callable[..., Reply]


@pytest.fixture(autouse=True)
def quick_jobs(settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody runs the jobs here, so nobody waits for their end."""
    settings.INGEST_DIR = tmp_path / "ingest"
    monkeypatch.setattr(job_documents, "WAIT_SECONDS_MAX", 0.05)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


@pytest.fixture
def prices(workspace: Workspace) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def values(workspace: Workspace, prices: Dataset, api: DataPlaneClient) -> dict[str, str]:
    """The value of a token of each kind, and none; there are records here and in CORE."""
    secret = TokenFactory(workspace=workspace, kind=TokenKind.SECRET)
    all_of_it = TokenFactory(workspace=workspace, settings__grants={prices: "read write delete"})
    core = DatasetFactory(workspace=WorkspaceFactory(name="CORE"), name="PRICES", credits_per_record=1)
    core_secret = TokenFactory(workspace=core.workspace, kind=TokenKind.SECRET)
    for name, token in ("ACME", secret), ("CORE", core_secret):
        written = api.request("POST", f"/v1/record/{name}/PRICES?token={token.test_value}", body=RECORDS)
        assert written.status == 200, written.body
    return {"secret": secret.test_value, "publishable": all_of_it.test_value, "none": ""}


@pytest.fixture
def job_id(values: dict[str, str], api: DataPlaneClient) -> str:
    sent = api.request(
        "POST", f"/v1/data/ACME/PRICES?token={values['secret']}", body=b"ticker,date\nC,2024-01-04\n"
    )
    return str(sent.json()["jobId"])


def operations_of(document: dict[str, Any]) -> list[Any]:
    """Every operation of a document, those that take the dataset away at the end."""
    loaded = schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(CONFIG))
    found = [result.ok() for result in loaded.get_all_operations()]
    return sorted(found, key=lambda one: LAST.index(name) + 1 if (name := name_of(one)) in LAST else 0)


def name_of(operation: Any) -> str:
    return str(operation.definition.raw["operationId"])


def send(api: DataPlaneClient, case: Any, value: str) -> tuple[Reply, Response]:
    """A case as it would go over the wire, and its answer as Schemathesis knows it."""
    given = case.as_transport_kwargs(base_url="http://testserver/v1")
    headers = {"X-API-Key": value} if value else {}
    sent = requests.Request(
        **{name: given.get(name) for name in ("method", "url", "params", "data", "json", "cookies")},
        headers={**(given.get("headers") or {}), **headers},
    ).prepare()
    body = sent.body.encode() if isinstance(sent.body, str) else sent.body or b""
    pairs = {
        name: text.decode("latin-1") if isinstance(text, bytes) else text
        for name, text in sent.headers.items()
        if name.lower() not in ("content-length", "host", "accept-encoding")
    }
    reply = api.request(sent.method or "", sent.path_url, body=body, headers=pairs)
    listed = {name: [text] for name, text in reply.headers.items()}
    return reply, Response(reply.status, listed, reply.body, sent, 0.01, verify=False)


def documented_headers(document: dict[str, Any], case: Any, status: int) -> set[str]:
    response = document["paths"][case.operation.path][case.method.lower()]["responses"][str(status)]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].split("/")[-1]]
    return {name.lower() for name in response.get("headers", ())} | OF_TRANSPORT


def fuzz(api: DataPlaneClient, document: dict[str, Any], value: str, **fixed: str) -> dict[str, set[int]]:
    """Run every operation of a document; returns the statuses that each was answered with."""
    seen: dict[str, set[int]] = {}
    faults: list[str] = []
    for operation in operations_of(document):
        statuses = seen.setdefault(operation.label, set())

        def one(case: Any, statuses: set[int] = statuses) -> None:
            reply, response = send(api, case, value)
            statuses.add(reply.status)
            case.validate_response(response, checks=CHECKED)
            undocumented = set(reply.headers) - documented_headers(document, case, reply.status)
            assert not undocumented, undocumented

        own = {name: text for name, text in fixed.items() if f"{{{name}}}" in operation.path}
        # Any text is a key and any header is one: what has neither parameters nor a body cannot be wrong.
        can_be_wrong = len(operation.query) or len(operation.body)
        modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)[: 2 if can_be_wrong else 1]
        for mode in modes:
            try:
                run(operation.as_strategy(generation_mode=mode, path_parameters=own or None), one)
            except (Exception, BaseExceptionGroup) as fault:
                faults.append(
                    f"{operation.label}, {mode.value}: {fault!r} {list(getattr(fault, 'exceptions', ()))}"
                )
    assert not faults, "\n\n".join(faults)
    return seen


def run(cases: Any, one: Callable[[Any], None]) -> None:
    """One check on a few made-up cases, the same in every run."""

    @given(case=cases)
    @settings(
        derandomize=True, max_examples=EXAMPLES, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def check(case: Any) -> None:
        one(case)

    check()


@pytest.mark.check("S59")
@pytest.mark.parametrize("kind", ["secret", "publishable", "none"])
def test_the_api_is_what_its_document_says(
    api: DataPlaneClient, values: dict[str, str], job_id: str, kind: str
) -> None:
    fixed = {"workspace": "ACME", "dataset": "PRICES", "jobId": job_id}

    seen = fuzz(api, openapi.whole("http://testserver"), values[kind], **fixed)

    assert seen["GET /status"] == {200}
    answered = {name for name, statuses in seen.items() if 200 in statuses}
    if kind == "none":
        assert answered == {"GET /status", "GET /openapi-doc"}
    else:
        assert {"GET /data/{workspace}/{dataset}/{key}", "GET /jobs/{workspace}/ingest/{jobId}"} <= answered
        assert ("GET /account/metadata" in answered) == (kind == "secret")


@pytest.mark.parametrize("kind", ["secret", "publishable"])
def test_a_dataset_is_what_its_document_says(
    api: DataPlaneClient, values: dict[str, str], job_id: str, kind: str
) -> None:
    said = api.request("GET", f"/v1/openapi-doc/ACME/PRICES?token={values[kind]}").json()

    seen = fuzz(api, said, values[kind], jobId=job_id, key="AAPL")

    assert 200 in seen["POST /record/ACME/PRICES"], "no record that fits the schema was stored"
    assert 200 in seen["GET /data/ACME/PRICES/{key}"]


# --- what Schemathesis asks over a network of its own ---------------------------------------------

WHOLE = openapi.whole("http://testserver")
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


def address_of(path: str) -> str:
    return (
        f"/v1{path}".replace("{workspace}", "ACME")
        .replace("{dataset}", "PRICES")
        .replace("{", "")
        .replace("}", "")
    )


def test_what_is_not_public_needs_a_token(api: DataPlaneClient) -> None:
    """No operation is answered without a token, or with one that is made up."""
    for path, methods in WHOLE["paths"].items():
        for method, operation in methods.items():
            failed_values.clear()  # An address may try only so many values.
            for headers, status in ({}, 401), ({"X-API-Key": "pk_" + "0" * 40}, 403):
                reply = api.request(method.upper(), address_of(path), headers=headers)
                is_public = operation.get("security") == []
                assert reply.status == (200 if is_public else status), (method, path, reply.body)


@pytest.mark.check("S59")
def test_methods_that_are_not_documented_are_refused(api: DataPlaneClient) -> None:
    for path, methods in WHOLE["paths"].items():
        allowed = {method.upper() for method in methods} | ({"HEAD"} if "get" in methods else set())
        for method in {*METHODS, "TRACE", "CONNECT", "PROPFIND"} - allowed:
            reply = api.request(method, address_of(path))
            assert (reply.status, reply.code) == (405, "method-not-allowed"), (method, path)
            assert set(reply.headers["allow"].split(", ")) == allowed
