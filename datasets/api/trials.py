"""A described request, not sent → Trial: the body of POST /v1/tokens/ID/test.

    parse(document, now) -> (Trial, moment) | Refusal     every wrong field is named at once

The table of operations says what a path is, and what it does with which datasets.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from apperate.database.threads import in_thread
from apperate.http.problems import API_PREFIXES, problem
from apperate.kernel.refusals import Refusal
from datasets.openapi.operation import DELETE, PUBLIC, SECRET, WRITE, Operation
from datasets.openapi.operations import OPERATIONS
from tokens.api import answers, documents
from tokens.api.bodies import Wrong, moment, refusal_of
from tokens.api.endpoints import body_of, free_json_answer, token_endpoint, workspace_of
from tokens.gate.calls import Answer, ApiRequest, Call
from tokens.rules.permissions import CORE, Action
from tokens.rules.vocabulary import Signature
from tokens.trials.judging import Result, Trial
from tokens.trials.runs import try_out

FIELDS = ("method", "path", "origin", "referer", "signature", "at")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PATH_CHARS_MAX = 4_000
ADDRESS_CHARS_MAX = 4_096
DAYS_AHEAD_MAX = 366
ACTIONS = {WRITE: Action.WRITE, DELETE: Action.DELETE}


def parse(document: Any, *, now: datetime) -> tuple[Trial, datetime] | Refusal:
    """The request, and the moment to test it for: now unless `at` says otherwise."""
    if not isinstance(document, dict):
        return _refusal([("body", "a JSON object")], type(document).__name__)
    faults = [(name, f"one of {', '.join(FIELDS)}") for name in document if name not in FIELDS]
    values = {
        "method": _method(document.get("method")),
        "path": _path(document.get("path")),
        "origin": _address(document.get("origin")),
        "referer": _address(document.get("referer")),
        "signature": _signature(document.get("signature")),
    }
    at = _at(document.get("at"), now)
    faults += [
        (name, value.needed) for name, value in (values | {"at": at}).items() if isinstance(value, Wrong)
    ]
    trial = None if faults else _trial(values)
    if isinstance(trial, Wrong):
        faults = [("path", trial.needed)]
    if faults or trial is None or isinstance(trial, Wrong) or isinstance(at, Wrong):
        return _refusal(faults, ", ".join(name for name, _ in faults[:10]))
    return trial, at


def _refusal(faults: list[tuple[str, str]], received: str) -> Refusal:
    return refusal_of(faults, received=received, outcome="Nothing was tested")


def _trial(values: Mapping[str, Any]) -> Trial | Wrong:
    method, path = values["method"], values["path"]
    target = urlsplit(path)
    segments = [unquote(segment) for segment in target.path.rstrip("/").split("/")[2:]]
    found = next(_matches("GET" if method == "HEAD" else method, segments), None)
    if found is None:
        return Wrong(f"a path of the API that takes {method}, such as /v1/data/WORKSPACE/DATASET")
    operation, parts = found
    if operation.who == PUBLIC:
        return Wrong(f"a path that asks for a token: {operation.path} is for anyone")
    return Trial(
        method=method,
        path=_without_token(path),
        action=_action(operation),
        datasets=tuple(_datasets(parts)),
        needs_secret=operation.who == SECRET,
        origin=values["origin"],
        referer=values["referer"],
        signature=values["signature"],
    )


def _matches(method: str, segments: list[str]) -> Iterator[tuple[Operation, dict[str, str]]]:
    """The operations a path may be, the one with most literal segments first."""
    found = []
    for operation in OPERATIONS:
        names = operation.path.split("/")[1:]
        if operation.method != method or len(names) != len(segments):
            continue
        parts = {name[1:-1]: got for name, got in zip(names, segments, strict=True) if name.startswith("{")}
        own = [name for name in names if not name.startswith("{")]
        if own == [got for name, got in zip(names, segments, strict=True) if not name.startswith("{")]:
            found.append((len(own), operation, parts))
    for _, operation, parts in sorted(found, key=lambda one: -one[0]):
        yield operation, parts


def _action(operation: Operation) -> Action:
    if operation.who in ACTIONS:
        return ACTIONS[operation.who]
    is_read = operation.who != SECRET or operation.method == "GET"
    return Action.READ if is_read else Action.WRITE


def _datasets(parts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(workspace, name) of each dataset in a path; an old name without a workspace means CORE."""
    for name in parts.get("dataset", "").split(","):
        if name:
            yield parts.get("workspace", CORE).upper(), name.upper()


def _without_token(path: str) -> str:
    """The path with its query, but without token values, which must not be echoed."""
    target = urlsplit(path)
    pairs = [
        (name, text) for name, text in parse_qsl(target.query, keep_blank_values=True) if name != "token"
    ]
    return f"{target.path}?{urlencode(pairs)}" if pairs else target.path


def _method(value: Any) -> str | Wrong:
    method = value.upper() if isinstance(value, str) else ""
    return method if method in METHODS else Wrong("one of " + ", ".join(METHODS))


def _path(value: Any) -> str | Wrong:
    is_path = isinstance(value, str) and value.startswith(API_PREFIXES) and value.isascii()
    if not is_path or not value.isprintable() or len(value) > PATH_CHARS_MAX:
        return Wrong(f"a path that begins with /v1/, as it is sent, at most {PATH_CHARS_MAX:,} characters")
    return str(value)


def _address(value: Any) -> str | None | Wrong:
    if value is None:
        return None
    if not (isinstance(value, str) and value.isascii() and value.isprintable()):
        return Wrong("an address as a browser sends it, in ASCII")
    return value if len(value) <= ADDRESS_CHARS_MAX else Wrong(f"at most {ADDRESS_CHARS_MAX:,} characters")


def _signature(value: Any) -> Signature | Wrong:
    if value is None:
        return Signature.NONE
    is_known = isinstance(value, str) and value in set(Signature)
    return Signature(value) if is_known else Wrong("one of " + ", ".join(Signature))


def _at(value: Any, now: datetime) -> datetime | Wrong:
    if value is None:
        return now
    at = moment(value)
    if isinstance(at, Wrong):
        return at
    is_near = at is not None and now <= at <= now + timedelta(days=DAYS_AHEAD_MAX)
    return at if at is not None and is_near else Wrong("a moment from now on, within a year")


@token_endpoint
async def test_token(call: Call, token_id: str) -> Answer | Refusal:
    """POST /v1/tokens/ID/test: which check stops a request that is not sent. Changes nothing."""
    body = await body_of(call)
    asked = body if isinstance(body, Refusal) else parse(body, now=call.now)
    if isinstance(asked, Refusal):
        return asked
    trial, at = asked

    def work() -> Any:
        token = answers.find(workspace_of(call), token_id, now=call.now)
        if isinstance(token, Refusal):
            return token
        report = try_out(token, trial, now=call.now, at=at)
        after = result_document(report.after, call.request) if report.after else None
        return result_document(report.asked, call.request) | {
            "now": result_document(report.now, call.request),
            "afterActivation": after,
            "curl": report.curl,
        }

    document = await in_thread(work)()
    return document if isinstance(document, Refusal) else free_json_answer(document)


def result_document(result: Result, request: ApiRequest) -> dict[str, Any]:
    """The result of all checks at one moment, and the refusal the request would get."""
    return {
        "at": documents.moment(result.at),
        "allowed": result.allowed,
        "check": result.check,
        "refusal": problem(result.refusal, request) if result.refusal else None,
        "checks": [
            {"name": checked.name, "passed": checked.passed, "detail": checked.detail}
            for checked in result.checks
        ],
    }
