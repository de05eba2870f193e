"""Operation: one method and path of the API, as described in the OpenAPI documents. Pure.

    Operation(method, path, …)          a row of the tables beside the routes
    Operation.codes -> tuple            every refusal it may answer with, in the order of REFUSALS
    PUBLIC … SECRET                     who may call it, and the refusals that implies

Each app keeps a table of its own operations; datasets/openapi/document.py makes documents of them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apperate.kernel.refusals import REFUSALS

# Who may call an operation, in the words of docs/api.md.
PUBLIC, ANY, READ, WRITE, DELETE, SECRET = "anyone", "any token", "read", "write", "delete", "secret token"

# Refusals that any request may get, whoever sends it.
ALWAYS = (
    "invalid-values", "url-too-long", "unsupported-encoding", "headers-too-large", "internal-error",
    "unavailable",
)  # fmt: skip
# Refusals of the token check.
TOKEN = (
    "token-missing", "domain-not-allowed", "signature-required", "token-invalid", "token-disabled",
    "token-expired", "not-active-yet", "secret-in-browser", "https-required", "signature-invalid",
    "rate-limited", "query-too-slow",
)  # fmt: skip
DATASET = ("dataset-not-granted", "not-found")
BODY = ("length-required", "body-too-large", "storage-full")
SIGNED_WRITE = ("signature-reused",)
KEY_USED = ("still-running", "already-done", "other-body")
# No documented method gets this refusal; the documents mention it in prose.
OF_OTHER_METHODS = frozenset({"method-not-allowed"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path below /v1, `{name}` in braces.

    `answer` maps a content type to the JSON Schema of its body. `parameters` names an operation of the
    table of query parameters, `required` those that must be given; `body` maps a content type to the
    schema of the request body. `is_read`: the answer has an ETag. `more_codes`: refusals besides those
    implied by `who` and the body. `headers`: names of the documented headers that this one adds.
    A POST that is_repeatable accepts an Idempotency-Key.
    """

    method: str
    path: str
    name: str
    summary: str
    tag: str
    who: str
    answer: Mapping[str, Mapping[str, Any]]
    description: str = ""
    parameters: str = ""
    required: tuple[str, ...] = ()
    body: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    body_required: bool = True
    headers: tuple[str, ...] = ()
    more_codes: tuple[str, ...] = ()
    is_read: bool = False
    is_old_name: bool = False
    is_repeatable: bool = True

    @property
    def takes_key(self) -> bool:
        """Whether a request may carry an Idempotency-Key."""
        return self.method == "POST" and self.is_repeatable

    @property
    def codes(self) -> tuple[str, ...]:
        """Every refusal code that this operation documents."""
        found = {*ALWAYS, *self.more_codes}
        if self.who != PUBLIC:
            found |= set(TOKEN)
        if self.who == SECRET:
            found.add("secret-required")
        if "{dataset}" in self.path and self.who != PUBLIC:
            found |= set(DATASET)
        if self.body:
            found |= set(BODY)
        if self.method != "GET" and self.who != PUBLIC:
            found |= set(SIGNED_WRITE)
        if self.takes_key:
            found |= set(KEY_USED)
        return tuple(code for code in REFUSALS if code in found)
