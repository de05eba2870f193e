"""What passes through the gate: a request, the call it becomes once admitted, its bill, its answer.

    ApiRequest        the request, and what the gate has found out about it
    Call              a request that passed every check
    Part, Bill        the parts of an answer that cost credits, and what is paid in advance
    Answer            a view's answer; Outdated: it noticed that stale metadata admitted the call

A dataset is known here only by what the gate needs.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any, Protocol

from apperate.database import shares
from apperate.http import delivery
from apperate.http.data_plane import DataRequest
from apperate.http.problems import JSON
from apperate.kernel.refusals import Refusal
from tokens.gate.access import Allowed
from tokens.gate.throttling import Verdict
from tokens.rules import signing
from tokens.rules.permissions import Action, Snapshot, Target


class Dataset(Protocol):
    """What the gate needs to know about a dataset."""

    @property
    def id(self) -> int: ...
    @property
    def workspace(self) -> str: ...
    @property
    def credits_per_record(self) -> int: ...
    @property
    def is_priced(self) -> bool: ...


class Question(Protocol):
    """What the gate needs to know about a query: whether its answer reveals something about values, and how
    long that answer is at most.
    """

    @property
    def asks_values(self) -> bool: ...
    @property
    def records_at_most(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Part:
    """The records of an answer from one dataset, which sets the price of a record.

    `asks_values`: whether any match is information too, and costs as much as one record. `found`: how many
    match; long ones may not all fit in the answer.
    """

    dataset: Dataset
    records: int
    asks_values: bool = False
    found: int = 0

    @property
    def cost(self) -> int:
        """In credits."""
        return max(self.records, 1 if self.asks_values else 0) * self.dataset.credits_per_record

    @property
    def cost_of_found(self) -> int:
        """Decides whether the answer fits in what is left, regardless of how long the values are."""
        return max(self.cost, self.found * self.dataset.credits_per_record)


@dataclass(slots=True)
class Bill:
    """What a request paid before its answer, and when. `parts`: what it owes even without an answer;
    `is_read`: the records were read.
    """

    ahead: int = 0
    paid_at: datetime | None = None
    parts: tuple[Part, ...] = ()
    is_read: bool = False


class ApiRequest(DataRequest):
    """A request of the API, and what the gate has found out about it."""

    def __init__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        super().__init__(scope, receive)
        # Authentication: the token, or the reason there is none.
        self.token: Snapshot | None = None
        self.token_refusal: Refusal | None = None
        self.token_value = ""
        # The checks: its signature, its rate once counted, and the dataset that the refusal log may name.
        self.signature: signing.Presented | None = None
        self.rate: Verdict | None = None
        self.asked = 0
        self.bill = Bill()
        self.place: shares.Place | None = None  # of a long answer

    @property
    def checked_token(self) -> Snapshot:
        """The token; first_checks() refuses requests without one."""
        if self.token is None:
            raise LookupError("the request has no token, and was to be refused for it")
        return self.token


@dataclass(frozen=True, slots=True)
class Answer:
    """A view's answer: 200, or 304 to a client that has it. `records` is what is charged and counted.

    `parts` splits them by dataset when they are not all the call's. `file` holds the body instead, from its
    current position, with that many bytes left; it is closed here. `settled` runs once the answer is paid.
    """

    body: bytes
    content_type: str = JSON
    records: int = 0
    is_free: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    file: IO[bytes] | None = None
    file_bytes: int = 0
    settled: Callable[[], Awaitable[None]] | None = None

    def etag(self, *more: str, key: bytes = b"") -> str:
        """An ETag for the answer's bytes and the next page it leads to."""
        cursor = self.headers.get("Apperate-Next-Cursor", "")
        return delivery.etag_of(self.body, self.content_type, cursor, *more, key=key)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed every check: who calls, for what, and when (the database's time)."""

    request: ApiRequest
    token: Snapshot
    target: Target
    dataset: Dataset | None
    action: Action
    allowed: Allowed
    now: datetime


class Outdated:
    """A view's result when stale metadata admitted the call."""


OUTDATED = Outdated()
View = Callable[..., Awaitable[Answer | Refusal | Outdated]]
Admit = Callable[[bool], Awaitable[Call | Refusal]]
