"""What an answer costs, and when it is paid: ask(), settle(), give_up().

An answer is paid for after its query, when its records are known. A question about values of priced data is
paid for before: `where=close gt 100` tells something also when no record meets it, when it is cut, and when
the answer does not fit in what is left. So asking it costs at least one record, and on a limited token it is
begun only when the most that it may cost is left; what it did not cost goes back.
Source: product.md, Credits: nothing free may differ between two states of priced data.
"""

import hashlib
from collections.abc import Sequence
from functools import cache

from django.conf import settings

from apperate.kernel.refusals import Refusal
from tokens.gate import credits
from tokens.gate.calls import Call, Dataset, Part, Question


def total(parts: Sequence[Part]) -> int:
    return sum(part.cost for part in parts)


def at_most(parts: Sequence[tuple[Dataset, Question]], *, records_max: int) -> int:
    """The most credits that these queries together may cost, in an answer of at most records_max records."""
    left, most = records_max, 0
    # The dearest first: of which datasets the records will be is not known.
    for dataset, query in sorted(parts, key=lambda part: part[0].credits_per_record, reverse=True):
        records = min(left, query.records_at_most)
        most += max(records, 1 if query.asks_values else 0) * dataset.credits_per_record
        left -= records
    return most


async def ask(
    call: Call, questions: Sequence[tuple[Dataset, Question]], *, records_max: int
) -> Refusal | None:
    """Pay what a question about values may cost before it is asked. Nothing for any other."""
    asked = [(dataset, query) for dataset, query in questions if dataset.is_priced]
    if not any(query.asks_values for _, query in asked):
        return None
    bill = call.request.bill
    if call.allowed.limit is not None:
        most = at_most(asked, records_max=records_max)
        if bill.ahead < most:  # It may have been paid for an admission that turned out to be outdated.
            verdict = await credits.charge(
                call.token.token_id, most - bill.ahead, limit=call.allowed.limit, now=call.now, is_most=True
            )
            if isinstance(verdict, Refusal):
                return verdict.for_token(call.token.public_id)
            bill.ahead = most
    return None


def begun(call: Call, dataset: Dataset, query: Question) -> None:
    """From here on a question about values is owed for, whatever comes of it."""
    if query.asks_values and dataset.is_priced:
        bill = call.request.bill
        bill.parts += (Part(dataset, 0, asks_values=True),)


def have_read(call: Call, *parts: Part) -> None:
    """From here on the answer is owed for: why it is not sent may depend on what it says."""
    call.request.bill.parts, call.request.bill.is_read = parts, True


async def settle(call: Call, cost: int) -> int | Refusal:
    """Pay `cost` in all: what the token has spent on CORE this month then. Only for a limited token."""
    limit = call.allowed.limit
    if limit is None:
        raise LookupError("a token without a limit pays nothing: its use is counted")
    token, bill = call.token, call.request.bill
    due = cost - bill.ahead
    if due > 0:
        verdict = await credits.charge(token.token_id, due, limit=limit, now=call.now)
        if isinstance(verdict, Refusal):
            return verdict.for_token(token.public_id)
        bill.ahead = cost
        return verdict.used
    give_back(call, -due)
    return await credits.used_this_month(token.token_id, limit=limit, now=call.now)


def give_back(call: Call, cost: int) -> None:
    """Undo a part of what was paid: it was not the cost, or the answer cannot be sent."""
    if cost > 0:
        call.request.bill.ahead -= cost
        credits.give_back(call.token.token_id, cost, now=call.now)


def give_up(call: Call, *, is_owed: bool) -> tuple[Part, ...]:
    """The end of a request that is refused: what it owes all the same, and what was paid beyond goes back."""
    bill = call.request.bill
    owed = bill.parts if is_owed else ()
    give_back(call, bill.ahead - total(owed))
    return owed


@cache
def _key(purpose: bytes) -> bytes:
    return hashlib.blake2b(settings.SECRET_KEY.encode(), digest_size=32, person=purpose).digest()


def etag_key() -> bytes:
    """Keys the ETags of priced data: they are known to whoever has got the answer, and cannot be computed."""
    return _key(b"etag")


def cursor_key(dataset: Dataset) -> bytes:
    """Encrypts the cursors of priced data, which name a record that is not paid for yet; else empty."""
    return _key(b"cursor") if dataset.is_priced else b""
