"""Refusals in the OpenAPI documents: by status, each with its codes, headers and examples. Pure."""

from collections.abc import Sequence

from apperate.kernel.refusals import REFUSALS
from datasets.openapi.operation import Operation
from datasets.openapi.schemas import EVERY, RATE, Json, ref

PROBLEM = "application/problem+json"
WITH_RETRY = frozenset({"credits-exhausted", "not-active-yet", "rate-limited", "unavailable", "storage-full"})


def named_headers(*names: str) -> Json:
    """References to documented headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


class Refusals:
    """The refusal responses, each defined once and referenced."""

    def __init__(self) -> None:
        self.responses: dict[str, Json] = {}
        self._names: dict[tuple[int, tuple[str, ...]], str] = {}

    def of(self, operation: Operation) -> dict[str, Json]:
        """The refusals of an operation by status."""
        by_status: dict[int, list[str]] = {}
        for code in operation.codes:
            by_status.setdefault(REFUSALS[code][0], []).append(code)
        return {
            str(status): {"$ref": f"#/components/responses/{self._name(status, tuple(codes))}"}
            for status, codes in by_status.items()
        }

    def _name(self, status: int, codes: tuple[str, ...]) -> str:
        if (status, codes) not in self._names:
            number = sum(known == status for known, _ in self._names) + 1
            name = f"Refused{status}" if number == 1 else f"Refused{status}_{number}"
            self._names[status, codes] = name
            self.responses[name] = _refusal(status, codes)
        return self._names[status, codes]


def _refusal(status: int, codes: Sequence[str]) -> Json:
    headers: tuple[str, ...] = (*EVERY, *RATE)
    if status == 401:
        headers += ("WWW-Authenticate",)
    if WITH_RETRY & set(codes):
        headers += ("Retry-After",)
    only = {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}}
    examples = {
        code: {
            "summary": REFUSALS[code][1],
            "value": {
                "type": f"/docs/errors/#{code}",
                "title": REFUSALS[code][1],
                "status": status,
                "detail": "One sentence about this request.",
                "code": code,
                "request_id": "6f1c2a9be0d84c57",
                "docs": f"/docs/errors/#{code}",
            },
        }
        for code in codes
    }
    schema = {"allOf": [ref("Problem"), only]}
    return {
        "description": "; ".join(f"`{code}`: {REFUSALS[code][1]}" for code in codes),
        "headers": named_headers(*headers),
        "content": {PROBLEM: {"schema": schema, "examples": examples}},
    }
