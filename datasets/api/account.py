"""The API about the whole account: older clients' account calls, the log, and schemas from sample data.

All of it requires the workspace's secret token. Not hot; runs in threads.
"""

import tempfile
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import simplejson
from django.http import HttpResponseBase

from apperate.accounts.idempotency import Document, once
from apperate.accounts.models import AuditEvent, Workspace
from apperate.database.changes import changes
from apperate.database.threads import in_thread
from apperate.http.problems import JSON
from apperate.kernel.dates import milliseconds
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.api.admission import Call, data_endpoint, workspace_endpoint
from datasets.files import file_text, inference
from datasets.models import IngestJob
from datasets.query import parameters
from datasets.records.schema import Schema
from datasets.storage import job_files
from tokens.gate.access import Allowed
from tokens.gate.answers import pairs
from tokens.gate.calls import Answer, ApiRequest
from tokens.gate.endpoint import answered, claim_of, first_checks
from tokens.rules.permissions import Action, Target
from tokens.services import account

SAMPLE_BYTES_MAX = 10_000_000
LOG_LINES_MAX = 5_000
LOG_PERIOD = timedelta(days=1)
# What the older service measured besides messages: rules, which do not exist here.
EMPTY_USAGES = ("rules", "rule-records", "alerts", "alert-records")
View = Callable[..., Awaitable[Answer | Refusal]]


def account_endpoint(view: View) -> Callable[..., Awaitable[HttpResponseBase]]:
    """For endpoints about the account of the calling secret token."""

    @wraps(view)
    async def endpoint(request: ApiRequest, **rest: str) -> HttpResponseBase:
        async def admitted(is_repeat: bool) -> Call | Refusal:
            if no := first_checks(request, Action.READ, needs_secret=True):
                return no
            target = Target(request.checked_token.workspace.name, "", None)
            return Call(request, request.checked_token, target, None, Action.READ, Allowed(), changes.now())

        return await answered(request, Action.READ, admitted, view, **rest)

    endpoint.policy = "secret token"  # type: ignore[attr-defined]
    return endpoint


def _workspace(call: Call) -> Workspace:
    return Workspace.objects.get(pk=call.token.workspace.id)


def _json(document: Any) -> Answer:
    return Answer(simplejson.dumps(document, ensure_ascii=False).encode(), JSON, is_free=True)


@account_endpoint
async def read_metadata(call: Call) -> Answer:
    """GET /v1/account/metadata."""
    return _json(await in_thread(lambda: account.metadata(_workspace(call), now=call.now))())


@account_endpoint
async def read_usage(call: Call, usage_type: str = "") -> Answer | Refusal:
    """GET /v1/account/usage[/TYPE]: this month's credits."""
    kind = usage_type.lower()
    if kind in EMPTY_USAGES:
        return _json([])
    if kind not in ("", "messages"):
        return invalid_value("type", usage_type, "one of messages, " + ", ".join(EMPTY_USAGES), check="path")
    messages = await in_thread(lambda: account.usage(_workspace(call), now=call.now))()
    return _json(messages if kind else {"messages": messages, "rules": [], **messages})


@account_endpoint
async def set_message_budget(call: Call) -> Answer | Refusal:
    """GET or POST /v1/account/messagebudget?totalMessages=n: stored, and returned as circuitBreaker.

    Older clients also send `allow` here, meaning the next endpoint.
    """
    return await _set_once(call, "messagebudget")


@account_endpoint
async def set_pay_as_you_go(call: Call) -> Answer | Refusal:
    """GET or POST /v1/account/payasyougo?allow=true: stored, and returned as payAsYouGoEnabled."""
    return await _set_once(call, "payasyougo")


async def _set_once(call: Call, operation: str) -> Answer | Refusal:
    """Store the account setting from the parameters, and answer with the one word older clients expect."""
    values = parameters.values(pairs(call.request.GET), operation)
    if isinstance(values, Refusal):
        return values
    if not values:
        name, known = next(iter(parameters.of(operation).items()))
        return invalid_value(name, "nothing", known.needed)

    def work() -> Document:
        workspace = call.token.workspace.id
        if "totalMessages" in values:
            account.set_budget(workspace, messages=values["totalMessages"], now=call.now)
        if "allow" in values:
            account.set_pay_as_you_go(workspace, allowed=values["allow"], now=call.now)
        return {}

    if call.request.body_hash is not None:
        # The body means nothing but the token; it is still needed to recognise a repeated request.
        body = await call.request.read_body(bytes_max=SAMPLE_BYTES_MAX)
        if isinstance(body, Refusal):
            return body
    done = await in_thread(once)(claim_of(call), work, now=call.now)
    return done if isinstance(done, Refusal) else _json("SUCCESS")


# --- the log ------------------------------------------------------------------------------------


@workspace_endpoint
async def read_logs(call: Call) -> Answer | Refusal:
    """GET /v1/logs/WS: changes in the workspace and its failed jobs, newest first."""
    values = parameters.values(pairs(call.request.GET), "logs")
    if isinstance(values, Refusal):
        return values
    since = call.now - values.get("period", LOG_PERIOD)
    return _json(await in_thread(_log_lines)(call.token.workspace.id, since))


def _log_lines(workspace_id: int, since: datetime) -> list[dict[str, Any]]:
    events = AuditEvent.objects.filter(workspace_id=workspace_id, at__gte=since).order_by("-at", "-pk")
    failed = IngestJob.objects.filter(
        dataset__workspace_id=workspace_id, status=IngestJob.Status.ERROR, ended_at__gte=since
    ).select_related("dataset")
    lines = [
        (event.at, f"{event.actor}: {event.action} {event.target}".rstrip(), "INFO")
        for event in events[:LOG_LINES_MAX]
    ]
    lines += [
        (job.ended_at or since, f"job {job.public_id} of {job.dataset.name} failed: {job.message}", "ERROR")
        for job in failed.order_by("-ended_at")[:LOG_LINES_MAX]
    ]
    lines.sort(key=lambda line: line[0], reverse=True)
    return [
        {"timestamp": milliseconds(at), "message": message, "severity": severity, "level": severity.lower()}
        for at, message, severity in lines[:LOG_LINES_MAX]
    ]


# --- schemas ------------------------------------------------------------------------------------


def _described(schema: Schema) -> dict[str, Any]:
    return schema.to_json() | {"columnMapping": schema.column_mapping()}


@workspace_endpoint
async def generate_schema(call: Call) -> Answer | Refusal:
    """POST /v1/generate-schema/WS: the JSON Schema and index inferred from a sample of records."""
    body = await call.request.read_body(bytes_max=SAMPLE_BYTES_MAX)
    if isinstance(body, Refusal):
        return body
    schema = await in_thread(infer_body)(body)
    return schema if isinstance(schema, Refusal) else _json(_described(schema))


def infer_body(body: bytes) -> Schema | Refusal:
    """The schema inferred from a file sent as the body, plain or gzipped."""
    with tempfile.TemporaryDirectory(prefix="apperate-sample-") as name:
        place = Path(name)
        (place / job_files.PACKED).write_bytes(body)
        unpacked = job_files.unpack(place, job_files.FileRoom(None))
        if isinstance(unpacked, Refusal):
            return unpacked
        path = place / job_files.BODY
        return file_text.file_fault(path) or inference.infer_file(path)


@data_endpoint(Action.READ)
async def read_schema(call: Call) -> Answer:
    """GET /v1/generate-schema/WS/ID: the dataset's current schema."""
    return _json(_described(call.metadata.schema))
