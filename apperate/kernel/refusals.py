"""Refusal: the one value that says "no", and the table of every code. Pure: no Django here.

Rules return a Refusal; they do not raise it, and they do not know HTTP. problems.py turns one into
application/problem+json; the pages show the same words. Source: docs/errors.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# code → (HTTP status, title). Clients of the older service compare titles.
REFUSALS: dict[str, tuple[int, str]] = {
    "invalid-values": (400, "You have supplied invalid values for this request"),
    "query-too-slow": (400, "The query took too long"),
    "token-missing": (401, "An API key is required to access this data and no key was provided"),
    "domain-not-allowed": (
        401,
        "The referer in the request header is not allowed. "
        "Please check the associated domain(s) for this API key",
    ),
    "signature-required": (401, "This token accepts signed requests only"),
    "secret-required": (401, "This action needs the secret token"),
    "credits-exhausted": (
        402,
        "You have exceeded your allotted message quota. Please enable pay-as-you-go to regain access",
    ),
    "token-invalid": (403, "The API key provided is not valid."),
    "token-disabled": (403, "This token is disabled"),
    "token-expired": (403, "This token has expired"),
    "not-active-yet": (403, "This token's settings are not active yet"),
    "dataset-not-granted": (403, "This token may not do that with this dataset"),
    "plan-required": (403, "The workspace's plan does not include this"),
    "secret-in-browser": (403, "A secret token must not be used in a browser"),
    "https-required": (403, "This API is served over https only"),
    "signature-invalid": (403, "Hashed authorization is invalid"),
    "not-found": (404, "Not Found"),
    "method-not-allowed": (405, "Method Not Allowed"),
    "signature-reused": (409, "This signature was already used"),
    "still-running": (409, "The first request with this key is still running"),
    "already-done": (409, "The first request with this key is done"),
    "length-required": (411, "The length of the body is required"),
    "body-too-large": (413, "The body is too large"),
    "url-too-long": (414, "The URL is too long"),
    "unsupported-encoding": (415, "The content encoding is not supported"),
    "other-body": (422, "This key was used with another body"),
    "rate-limited": (429, "Error 429 - Too Many Requests"),
    "headers-too-large": (431, "The headers are too large"),
    "internal-error": (500, "Something went wrong on our side"),
    "unavailable": (503, "The service is not available right now"),
    "storage-full": (507, "There is no room to store this"),
    "storage-limit": (507, "The plan's storage is used up"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A named "no": what was wrong, what was received, and what would be right.

    `check` is the step that refused (token, active, signature, domain, permission, rate, credits,
    query, body). `detail` is one sentence for people. `errors` lists individual faults, at most 100.
    """

    code: str
    detail: str
    check: str = ""
    received: str | None = None
    needed: str | None = None
    token: str | None = None
    retry_after_seconds: int | None = None
    errors: tuple[Mapping[str, Any], ...] = field(default=())

    def __post_init__(self) -> None:
        if self.code not in REFUSALS:
            raise ValueError(f"unknown refusal code {self.code!r}")

    @property
    def status(self) -> int:
        return REFUSALS[self.code][0]

    @property
    def title(self) -> str:
        return REFUSALS[self.code][1]

    @property
    def in_words(self) -> str:
        """For pages: what was wrong and what would be right, each once."""
        needed = self.needed or ""
        is_said = (needed.partition(": ")[2] or needed) in self.detail
        return self.detail if is_said else f"{self.detail} Needed: {needed}."

    def for_token(self, public_id: str) -> "Refusal":
        """The same refusal, naming its token by public id."""
        return replace(self, token=public_id)


def invalid_value(name: str, received: object, needed: str, *, check: str = "query") -> Refusal:
    """A 400 that names the parameter, the value received and what would be right."""
    shown = str(received)
    shown = shown if len(shown) <= 100 else shown[:99] + "…"
    return Refusal(
        "invalid-values",
        f"The value of {name} is not valid: needed {needed}.",
        check=check,
        received=f"{name}={shown}",
        needed=f"{name}: {needed}",
    )


def unavailable() -> Refusal:
    """The database does not answer, and cached data is not served instead."""
    return Refusal(
        "unavailable",
        "The database does not answer at the moment. Try again in a few seconds.",
        retry_after_seconds=2,
    )


def storage_full(detail: str = "Nothing was stored, because the disk of the database is full.") -> Refusal:
    """A disk is full; reads go on."""
    return Refusal(
        "storage-full",
        detail,
        retry_after_seconds=60,
        needed="an operator who makes room",
    )
