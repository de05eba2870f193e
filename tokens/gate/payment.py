"""What an answer costs, and when it is paid: ask(), settle(), give_up().

An answer is paid for after its query, when its records are known. A query about values of priced data is
paid for in advance: `where=close gt 100` reveals something even when no record matches, when the answer is
cut, and when it does not fit in what is left. So it costs at least one record, and a limited token may run
it only when its maximum cost is left; the difference goes back.
Source: docs/decisions/0005-credits.md: nothing free may differ between two states of priced data.
"""

import hashlib
from collections.abc import Sequence
from functools import cache

from django.conf import settings

from apperate.database.clock import month_of
from apperate.kernel.refusals import Refusal
from tokens.gate import credits
from tokens.gate.calls import Call, Dataset, Part, Question


def total(parts: Sequence[Part]) -> int:
    return sum(part.cost for part in parts)


def at_most(parts: Sequence[tuple[Dataset, Question]], *, records_max: int) -> int:
    """The most credits that these queries together may cost, in an answer of at most records_max records."""
    left, most = records_max, 0
    # The most expensive first: it is not known which datasets the records will come from.
    for dataset, query in sorted(parts, key=lambda part: part[0].credits_per_record, reverse=True):
        records = min(left, query.records_at_most)
        most += max(records, 1 if query.asks_values else 0) * dataset.credits_per_record
        left -= records
    return most


async def ask(
    call: Call, questions: Sequence[tuple[Dataset, Question]], *, records_max: int
) -> Refusal | None:
    """Pay the maximum cost of a query about values before it runs. Other queries pay nothing yet."""
    asked = [(dataset, query) for dataset, query in questions if dataset.is_priced]
    if not any(query.asks_values for _, query in asked):
        return None
    bill = call.request.bill
    if call.allowed.limit is not None:
        _keep_to_month(call)
        most = at_most(asked, records_max=records_max)
        if bill.ahead < most:  # An admission that turned out to be outdated may have paid already.
            verdict = await credits.charge(
                call.token.token_id, most - bill.ahead, limit=call.allowed.limit, now=call.now, is_most=True
            )
            if isinstance(verdict, Refusal):
                return verdict.for_token(call.token.public_id)
            bill.ahead, bill.paid_at = most, call.now
    return None


def begun(call: Call, dataset: Dataset, query: Question) -> None:
    """From here on a query about values is owed for, whatever comes of it."""
    if query.asks_values and dataset.is_priced:
        bill = call.request.bill
        bill.parts += (Part(dataset, 0, asks_values=True),)


def have_read(call: Call, *parts: Part) -> None:
    """From here on the answer is owed for: why it is not sent may depend on its content."""
    call.request.bill.parts, call.request.bill.is_read = parts, True


async def settle(call: Call, cost: int) -> int | Refusal:
    """Pay `cost` in total; returns the token's CORE spending this month. Only for a limited token."""
    limit = call.allowed.limit
    if limit is None:
        raise LookupError("a token without a limit pays nothing: its use is counted")
    _keep_to_month(call)
    token, bill = call.token, call.request.bill
    due = cost - bill.ahead
    if due > 0:
        verdict = await credits.charge(token.token_id, due, limit=limit, now=call.now)
        if isinstance(verdict, Refusal):
            return verdict.for_token(token.public_id)
        bill.ahead, bill.paid_at = cost, call.now
        return verdict.used
    give_back(call, -due)
    return await credits.used_this_month(token.token_id, limit=limit, now=call.now)


async def pay_owed(call: Call) -> Refusal | None:
    """Pay what a request without an answer owes beyond what it has paid. Refused: that is not left."""
    bill = call.request.bill
    if call.allowed.limit is None or total(bill.parts) <= bill.ahead:
        return None
    try:
        verdict = await settle(call, total(bill.parts))
    except BaseException:
        give_up(call, is_owed=False)
        raise
    if isinstance(verdict, Refusal):
        bill.parts = ()
        return verdict
    return None


def _keep_to_month(call: Call) -> None:
    """What an earlier admission paid goes back when the month has ended since: this one pays in its own."""
    bill = call.request.bill
    if bill.paid_at is not None and month_of(bill.paid_at) != month_of(call.now):
        give_back(call, bill.ahead)


def give_back(call: Call, cost: int) -> None:
    """Undo part of the payment: it was not the cost, or the answer cannot be sent."""
    bill = call.request.bill
    if cost > 0 and bill.paid_at is not None:
        bill.ahead -= cost
        credits.give_back(call.token.token_id, cost, now=bill.paid_at)


def give_up(call: Call, *, is_owed: bool) -> tuple[Part, ...]:
    """End a refused request: returns what it still owes, and gives back what was paid beyond that."""
    bill = call.request.bill
    owed = bill.parts if is_owed else ()
    give_back(call, bill.ahead - total(owed))
    return owed


@cache
def _key(purpose: bytes) -> bytes:
    return hashlib.blake2b(settings.SECRET_KEY.encode(), digest_size=32, person=purpose).digest()


def etag_key() -> bytes:
    """The key of priced data's ETags: whoever got the answer knows its ETag, but nobody can compute one."""
    return _key(b"etag")


def cursor_key(dataset: Dataset) -> bytes:
    """The key for cursors of priced data, which name a record not yet paid for; else empty."""
    return _key(b"cursor") if dataset.is_priced else b""
