"""Nothing free differs between two states of priced data: a value changes, and free answers are compared."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest

from apperate.accounts.models import Workspace
from apperate.database import shares
from apperate.database.changes import changes
from apperate.database.clock import database_now
from apperate.database.shares import Asker
from apperate.http import delivery
from apperate.kernel.refusals import Refusal
from datasets.api.urls import urlpatterns
from datasets.models import Dataset
from datasets.query import parameters
from datasets.storage import reads
from tests.support.data_plane_client import DataPlaneClient, Reply
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tokens.metering.meter import meter
from tokens.models import Token, UsageCounter
from tokens.rules.token_format import TokenKind
from tokens.services import rotation

pytestmark = pytest.mark.django_db(transaction=True)

SCHEMA = {
    "type": "object",
    "properties": {
        "Ticker": {"type": "string"},
        "Date": {"type": "string", "format": "date"},
        "Close": {"type": "number"},
        "Volume": {"type": "integer"},
        "Paid": {"type": "string", "format": "date"},
        "Note": {"type": "any"},
    },
    "required": ["Ticker", "Date"],
}
LIMIT = 1_000_000


def record(day: int, ticker: str = "AAPL", **values: Any) -> dict[str, Any]:
    facts = {"Close": 90 + day, "Volume": 10, "Paid": "2024-02-15", "Note": None}
    return {"Ticker": ticker, "Date": f"2024-01-0{day}", **facts, **values}


# What changes, from the first to the second: one value of the newest record of AAPL.
CHANGES = {
    "a number, past a condition": ({"Close": 99.5}, {"Close": 100.5}),
    "a number, to nothing": ({"Close": 99.5}, {"Close": None}),
    "a longer text": ({"Note": "a"}, {"Note": "b" * 3_000}),
    "a date that dates are asked by": ({"Paid": "2024-02-15"}, {"Paid": "2025-02-15"}),
    "an integer beyond 64 bits": ({"Volume": 10}, {"Volume": 2**70}),
}
# The query strings that are asked, beside one for every parameter of the table.
QUERIES = (
    "", "filter=Close", "limit=3", "last=2", "first=2", "next=1", "limit=1&offset=1", "offset=9",
    "where=Close gt 100", "where=Close gt 100&limit=3", "where=not Close gt 100&limit=3",
    "where=Close eq null",
    "where=Close gt 95 and Note eq a&range=2024", "subattribute=Close|100.5", "subattribute=Close~99.5",
    "dateField=Paid&on=2024-02-15", "dateField=Paid&from=2025-01-01", "dateField=Paid&last=1",
    "dateField=Paid&sort=asc&limit=1", "queryId=a1", "queryId=a1&limit=5", "queryId=a2&where=Close gt 100",
    "interval=2&limit=4", "range=2024", "range=2024&sort=asc", "from=2024-01-01&to=2024-01-09",
    "export=true", "export=true&where=Close gt 100", "export=true&where=Close gt 100&limit=5",
    "schema=true", "schema=true&where=Close gt 100", "schema=true&format=csv", "callback=show",
    "callback=show&where=Close gt 100", "includeSystemRecordProperties=true", "limit=2&format=parquet",
    "limit=2&format=csv", "format=psv", "format=ndjson", "where=Close gt 100&format=parquet",
    "where=Nothing gt 1", "where=Close gt", "filter=Nothing", "cursor=WyJkMmY4", "limit=0", "on=2024-13-01",
)  # fmt: skip
# What differs between any two answers.
OF_THE_MOMENT = {"x-request-id", "ratelimit", "date", "apperate-credits-remaining", "retry-after"}
MOMENTS = re.compile(r'"(request_id|time|creditsUsed|creditsRemaining|lastUsedAt)": ?("[^"]*"|\d+|null)')


@dataclass
class Market:
    """CORE with one priced dataset, and a customer's tokens on it."""

    api: DataPlaneClient
    core: Workspace
    owner: Token
    token: Token
    dataset: Dataset

    def write(self, *records: dict[str, Any]) -> None:
        url = f"/v1/record/CORE/PRICES?duplicateKeyHandling=replace&token={self.owner.test_value}"
        reply = self.api.post(url, list(records))
        assert reply.status == 200, reply.body

    def ask(self, target: str, *, token: Token | None = None, method: str = "GET", **headers: str) -> Reply:
        value = (token or self.token).test_value
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        url = f"/v1/{target}{'&' if '?' in target else '?'}token={value}".replace(" ", "%20")
        return self.api.request(method, url, headers=named)


@pytest.fixture
def market(api: DataPlaneClient) -> Market:
    core = WorkspaceFactory(name="CORE")
    dataset = DatasetFactory(
        workspace=core, name="PRICES", schema_json=SCHEMA, credits_per_record=1,
        column_mapping={"key": "Ticker", "date": "Date"},
    )  # fmt: skip
    owner = TokenFactory(workspace=core, kind=TokenKind.SECRET)
    found = Market(api, core, owner, TokenFactory(settings={"core_credit_limit": LIMIT}), dataset)
    found.write(*(record(day) for day in range(1, 6)), record(1, ticker="MSFT"))
    return found


def cost(reply: Reply) -> int:
    return int(reply.headers.get("iexcloud-credits-used", 0))


def targets() -> Iterator[str]:
    """Every path that answers GET, filled in, with every query."""
    names = {"workspace": "CORE", "name": "PRICES", "key": "AAPL", "subkey": "x", "usage_type": "messages"}
    names |= {"job_id": "0" * 32, "token_id": "tok_none"}
    for pattern in urlpatterns:
        route = str(pattern.pattern)
        if route.startswith("^") or "GET" not in getattr(pattern.callback, "views", {}):
            continue
        yield re.sub(r"<segment:(\w+)>", lambda found: names.get(found[1], "1"), route)
    for path in ("data/CORE/PRICES", "data/CORE/PRICES/AAPL", "data/CORE/PRICES/NONE"):
        for query in QUERIES:
            yield f"{path}?{query}" if query else path
        for name, found in parameters.of("read").items():
            yield f"{path}?{name}={found.example}"
    for path in ("data/CORE/PRICES,PRICES/AAPL,MSFT", "data/CORE/PRICES,NONE", "data/CORE/PRICES,/AAPL"):
        for query in ("", "where=Close gt 100", "limit=2&filter=Close", "where=Close gt 100&limit=3"):
            yield f"{path}?{query}" if query else path


def seen(market: Market, token: Token) -> dict[str, Reply]:
    """What a token is answered, by method, target and header."""
    found: dict[str, Reply] = {}
    asked = list(targets())
    for target in asked:
        for method in ("OPTIONS", "GET", "HEAD"):
            reply = market.ask(target, token=token, method=method)
            if target == "token":  # It tells what the token has paid, and when.
                reply.headers.pop("etag", None)
                reply.headers.pop("content-length", None)
            found[f"{method} {target}"] = reply
    read = "data/CORE/PRICES/AAPL?filter=Close"
    guesses = [
        json.dumps([{"Close": close}], separators=(",", ":")).encode() for close in (99.5, 100.5, None)
    ]
    etags = [delivery.etag_of(body, "application/json; charset=utf-8", "") for body in guesses]
    for name, headers in {
        "any": {"If_None_Match": "*"},
        "guessed": {"If_None_Match": ", ".join(etags)},
        "guessed strong": {"If_None_Match": ", ".join(etag.removeprefix("W/") for etag in etags)},
        "another": {"If_None_Match": market.ask(read, token=market.owner).headers["etag"]},
        "a range": {"Range": "bytes=0-3"},
        "since": {"If_Modified_Since": "Sat, 01 Jan 2028 00:00:00 GMT"},
        "compressed": {"Accept_Encoding": "gzip"},
        "as csv": {"Accept": "text/csv"},
    }.items():
        for method in ("GET", "HEAD"):
            found[f"{method} with {name}"] = market.ask(read, token=token, method=method, **headers)
    return found


def told(reply: Reply, token: Token) -> tuple[Any, ...]:
    """An answer without what is of this moment, or of this token among others like it."""
    headers = {name: text for name, text in reply.headers.items() if name not in OF_THE_MOMENT}
    body = reply.body.decode(errors="replace").replace(token.public_id, "T").replace(token.test_value, "V")
    return reply.status, headers, MOMENTS.sub("", body)


Told = dict[str, tuple[int, tuple[Any, ...]]]  # What was asked → what it cost, and what was told.


def limited(credits: int) -> Token:
    """One of many tokens that differ in nothing but their ids."""
    return TokenFactory(nickname="One of many", settings={"core_credit_limit": credits})


def assert_nothing_free_differs(before: Told, after: Told) -> None:
    free = {name for found in (before, after) for name, (credits, _) in found.items() if credits == 0}
    differing = {name: (before[name], after[name]) for name in free if before[name] != after[name]}
    assert not differing, "\n".join(f"{name}: {pair}" for name, pair in list(differing.items())[:5])
    # The change shows, to whoever pays.
    assert len(free) > 20 and any(before[name] != after[name] for name in before)


@pytest.mark.parametrize("change", CHANGES)
def test_no_free_answer_differs_between_two_values(market: Market, change: str) -> None:
    unlimited, states = TokenFactory(), list[Told]()
    for values in CHANGES[change]:
        market.write(record(5, **values))
        # Without a limit: what a token has left is in many answers, and differs with what it has paid.
        replies = seen(market, unlimited)
        states.append({name: (cost(reply), told(reply, unlimited)) for name, reply in replies.items()})

    assert_nothing_free_differs(*states)


@pytest.mark.parametrize("change", ["a number, past a condition", "an integer beyond 64 bits"])
def test_no_free_answer_differs_for_a_token_with_few_credits(market: Market, change: str) -> None:
    states: list[Told] = []
    for values in CHANGES[change]:
        market.write(record(5, **values))
        found: Told = {}
        for target in targets():
            if not target.startswith(("data/CORE/PRICES/AAPL?", "data/CORE/PRICES?")):
                continue
            token = limited(3)  # One of its own for each question: an answer may take all it has.
            reply = market.ask(target, token=token)
            status, headers, body = told(reply, token)
            found[target] = cost(reply), (status, headers | {"etag": ""}, body)
        states.append(found)

    assert_nothing_free_differs(*states)


def test_head_costs_what_get_costs_answered_and_refused_alike(market: Market) -> None:
    token = limited(5)
    read = "data/CORE/PRICES/AAPL?last=2"

    replies = [market.ask(read, token=token, method=method) for method in ("HEAD", "GET", "HEAD", "GET")]

    assert [(reply.status, cost(reply)) for reply in replies] == [(200, 2), (200, 2), (402, 0), (402, 0)]
    assert replies[0].headers["content-length"] == replies[1].headers["content-length"]
    assert (replies[0].body, replies[2].body) == (b"", b"")
    assert replies[0].headers["etag"] == replies[1].headers["etag"]


def test_whether_an_answer_is_unchanged_is_told_to_whoever_could_pay_for_it(market: Market) -> None:
    token = limited(5)
    read = "data/CORE/PRICES/AAPL?last=3&filter=Close"
    etag = market.ask(read, token=token).headers["etag"]

    same = market.ask(read, token=token, If_None_Match=etag)
    market.write(record(5, Close=1))
    other = market.ask(read, token=token, If_None_Match=etag)

    assert [(reply.code, cost(reply)) for reply in (same, other)] == [("credits-exhausted", 0)] * 2
    assert MOMENTS.sub("", same.body.decode()) == MOMENTS.sub("", other.body.decode())


def test_a_no_does_not_tell_how_long_the_values_are(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "ANSWER_CHARACTERS_MAX", 2_000)
    monkeypatch.setattr(reads, "SURELY_SHORT", 0)
    read = "data/CORE/PRICES/AAPL?last=5"
    said = []
    for note in ("short", "long" * 400):
        market.write(*(record(day, Note=note) for day in range(1, 6)))
        reply = market.ask(read, token=limited(4))
        said.append((reply.code, cost(reply), reply.json()["detail"]))

    paid = market.ask(read, token=limited(5))
    assert said[0] == said[1] and said[0][:2] == ("credits-exhausted", 0)
    assert (paid.status, cost(paid), paid.headers["apperate-credits-remaining"]) == (200, 1, "4")


def test_who_is_too_late_for_an_answer_that_was_read_pays_for_it(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long answer waits for its turn to be made, and a short one does not: that is not told for nothing."""
    monkeypatch.setattr(shares.BODIES, "seconds_max", 0.01)
    market.write(*(record(day, Note="n" * 50_000) for day in range(1, 6)))
    for _ in range(shares.BODIES.of_workspace):
        shares.BODIES.enter(Asker(market.token.pk, market.token.workspace_id))

    late = market.ask("data/CORE/PRICES/AAPL?where=Close gt 0&limit=5")
    late_by_index = market.ask("data/CORE/PRICES/AAPL?last=5")
    in_time = market.ask("data/CORE/PRICES/MSFT?where=Close gt 0&limit=5")

    assert (late.code, cost(late)) == ("rate-limited", 5)
    assert (late_by_index.code, cost(late_by_index)) == ("rate-limited", 5)
    assert (in_time.status, cost(in_time)) == (200, 1)
    assert in_time.headers["apperate-credits-remaining"] == str(LIMIT - 5 - 5 - 1)


def test_who_is_too_late_for_an_answer_that_is_beyond_its_limit_pays_nothing(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares.BODIES, "seconds_max", 0.01)
    market.write(*(record(day, Note="n" * 50_000) for day in range(1, 6)))
    token = limited(4)
    for _ in range(shares.BODIES.of_workspace):
        shares.BODIES.enter(Asker(token.pk, token.workspace_id))

    late = market.ask("data/CORE/PRICES/AAPL?last=5", token=token)
    in_time = market.ask("data/CORE/PRICES/MSFT", token=token)

    assert (late.code, cost(late)) == ("credits-exhausted", 0)
    assert (in_time.status, in_time.headers["apperate-credits-remaining"]) == (200, "3")


def test_a_request_that_was_not_begun_costs_nothing(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    asker = Asker(market.token.pk, market.token.workspace_id)
    for share in (shares.QUICK, shares.EXPORTS, shares.ANSWERS):
        monkeypatch.setattr(share, "seconds_max", 0.01)
        for _ in range(share.of_token):
            share.enter(asker)
    question = "data/CORE/PRICES/AAPL?where=Close gt 0"

    replies = [market.ask(f"{question}&{more}") for more in ("limit=1", "limit=100", "limit=5&export=true")]
    for share in (shares.QUICK, shares.EXPORTS, shares.ANSWERS):
        for _ in range(share.of_token):
            share.leave(asker, 0.0)

    assert [(reply.code, cost(reply)) for reply in replies] == [("rate-limited", 0)] * 3
    after = market.ask(f"{question}&limit=1")
    assert after.headers["apperate-credits-remaining"] == str(LIMIT - 1)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_export_is_paid_for_by_either_method(market: Market, method: str) -> None:
    replies = [
        market.ask("data/CORE/PRICES?export=true", token=limited(limit), method=method) for limit in (6, 5)
    ]

    assert [(reply.status, cost(reply)) for reply in replies] == [(200, 6), (402, 0)]


def test_304_is_free_for_the_etag_of_a_paid_answer_to_this_token_and_question(market: Market) -> None:
    other = limited(LIMIT)
    read, same = "data/CORE/PRICES/AAPL?filter=Volume", "data/CORE/PRICES/MSFT?filter=Volume"
    paid = market.ask(read)
    etag = paid.headers["etag"]
    theirs = market.ask(read, token=other)

    again = market.ask(read, If_None_Match=etag)
    strong = market.ask(read, If_None_Match=f'"x", {etag.removeprefix("W/")}')
    head = market.ask(read, method="HEAD", If_None_Match=etag)
    any_one = market.ask(read, If_None_Match="*")
    another = market.ask(read, If_None_Match=theirs.headers["etag"])
    elsewhere = market.ask(same, If_None_Match=etag)
    market.write(record(5, Volume=11))
    changed = market.ask(read, If_None_Match=etag)

    assert theirs.body == paid.body and theirs.headers["etag"] != etag
    assert elsewhere.body == paid.body  # The same bytes, of a record that was not paid for.
    for reply in (again, strong, head):
        assert (reply.status, reply.body, cost(reply), reply.headers["etag"]) == (304, b"", 0, etag)
    for reply in (any_one, another, elsewhere, changed):
        assert (reply.status, cost(reply)) == (200, 1)


def test_a_rotated_token_keeps_its_etags(market: Market) -> None:
    read = "data/CORE/PRICES/AAPL?filter=Close"
    etag = market.ask(read).headers["etag"]
    rotated = rotation.rotate(token=market.token, overlap_seconds=0, by=None, now=database_now())
    assert not isinstance(rotated, Refusal)
    market.token.test_value = rotated.value
    market.api.run(changes.poll())

    assert market.ask(read, If_None_Match=etag).status == 304


def test_an_unpriced_dataset_takes_any_etag_and_is_free_by_head(market: Market) -> None:
    Dataset.objects.update(credits_per_record=0, version=2)
    market.api.run(changes.poll())
    read = "data/CORE/PRICES/AAPL"

    first, other = market.ask(read), market.ask(read, token=limited(3))

    assert first.headers["etag"] == other.headers["etag"]
    assert market.ask(read, If_None_Match="*").status == 304
    assert cost(market.ask(read, method="HEAD")) == 0


@pytest.mark.parametrize(
    "question", ["where=Close gt 1000", "subattribute=Close|1000", "dateField=Paid&on=1999-01-01"]
)
def test_a_question_about_values_costs_a_record_also_when_none_meets_it(
    market: Market, question: str
) -> None:
    token = limited(10)

    replies = [market.ask(f"data/CORE/PRICES/AAPL?{question}&limit=2", token=token) for _ in range(5)]

    assert [(reply.status, reply.body, cost(reply)) for reply in replies] == [(200, b"[]", 1)] * 5
    assert [reply.headers["apperate-credits-remaining"] for reply in replies] == list("98765")
    assert cost(market.ask("data/CORE/PRICES/NONE", token=token)) == 0  # Of the index alone.


def test_a_question_about_values_is_begun_only_when_all_it_may_cost_is_left(market: Market) -> None:
    token = limited(3)

    refused = market.ask("data/CORE/PRICES/AAPL?where=Close gt 1000&limit=4", token=token)
    answered = market.ask("data/CORE/PRICES/AAPL?where=Close gt 1000&limit=3", token=token)

    assert (refused.code, cost(refused)) == ("credits-exhausted", 0)
    assert "up to 4 credits" in refused.json()["received"] and "limit=" in refused.json()["needed"]
    assert (answered.status, cost(answered), answered.headers["apperate-credits-remaining"]) == (200, 1, "2")


def test_a_question_about_values_that_is_cut_costs_a_record(market: Market) -> None:
    token = limited(10)
    cut = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'query_canceled'; END $$"
    path = "data/CORE/PRICES/AAPL"

    with patch("datasets.storage.reads.read_statement", lambda *_: (cut, None)):
        about_values = market.ask(f"{path}?where=Close gt 1000&limit=5", token=token)
        about_index = market.ask(path, token=token)

    assert (about_values.code, cost(about_values)) == ("query-too-slow", 1)
    assert (about_index.code, cost(about_index)) == ("query-too-slow", 0)
    assert market.ask(path, token=token).headers["apperate-credits-remaining"] == "8"


def test_a_charge_that_is_cut_is_a_fault_of_ours_and_nothing_was_spent(market: Market) -> None:
    """The records were read, but neither sent nor paid for, so no count may say that they were."""
    token = limited(10)
    cut = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'query_canceled'; END $$"
    path = "data/CORE/PRICES/AAPL"

    with patch("tokens.gate.leases.DRAW", cut):
        refused = market.ask(path, token=token)
    answered = market.ask(path, token=token)
    market.api.run(meter.flush())

    assert (refused.status, refused.code, cost(refused)) == (503, "unavailable", 0)
    assert answered.headers["apperate-credits-remaining"] == "9"
    assert sum(UsageCounter.objects.filter(token_id=token.pk).values_list("credits", flat=True)) == 1


def test_a_cursor_tells_nothing_of_the_record_it_leads_to(market: Market) -> None:
    read = "data/CORE/PRICES?dateField=Paid&limit=1&where=Close gt 0"
    first = market.ask(read)
    cursor = first.headers["apperate-next-cursor"]

    written = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    second = market.ask(f"{read}&cursor={cursor}")
    made_up = base64.urlsafe_b64encode(
        json.dumps(["0" * 16, 0, 1, "2024-01-01T00:00:00+00:00", "AAPL", "", 0]).encode()
    )

    assert not any(word in written for word in (b"AAPL", b"MSFT", b"2024"))
    assert second.status == 200 and second.body != first.body
    assert market.ask(f"{read}&cursor={made_up.decode().rstrip('=')}").code == "invalid-values"
    assert market.ask(f"{read}&cursor={cursor[:-2]}AA").code == "invalid-values"


def test_a_description_of_priced_data_tells_its_owner_alone_how_much_there_is(market: Market) -> None:
    shown = market.ask("datasets/CORE/PRICES").json()
    owned = market.ask("datasets/CORE/PRICES", token=market.owner).json()

    assert (shown["records"], shown["keys"], shown["date"]) == (None, None, None)
    assert (owned["records"], owned["keys"]) == (6, 2) and owned["date"] is not None
    assert shown["updated"] == int(market.dataset.updated_at.timestamp() * 1000)
