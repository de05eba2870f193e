"""S21, S34, S41, S60: no text makes a parser raise: JSON records, files, query strings, headers.

Hypothesis bends texts that are nearly right. tests/security/corpus has what a fuzzer that is led by coverage
(atheris) found to reach the most of the code, and whatever once made one raise.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.security.parsers import TARGETS

CORPUS = Path(__file__).with_name("corpus")
# Nearly right: what is bent below.
SEEDS = {
    "json records": [
        b'[{"ticker":"A","day":"2024-01-02","close":1.5,"count":3,"open":true,"more":{"a":[1]},"list":[1,null]}]',
        b'{"type":"object","properties":{"ticker":{"type":["string","null"]},"day":{"type":"date"}}}',
    ],
    "files": [
        b'ticker,day,close\nA,2024-01-02,1.5\n"x,""y",2024,1e5\n',
        b'{"ticker":"A","day":"2024-01-02"}\n{"ticker":"B","day":1704067200000}\n',
        b"\xef\xbb\xbfticker;day\r\nA;2024\r\n",
        b"PAR1\x15\x04\x15\x10\x15\x14PAR1",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    ],
    "query string": [
        b"from=2024-01-02&to=2024-02-01&last=3&filter=close,ticker&where=close%20gt%205%20and%20not%20(open)",
        b"range=1m&on=2024-01-01&subattribute=close%7C5,ticker%7C*A&cursor=abc&dateField=day&interval=2&first=1",
        b"sort=asc&limit=5&format=csv&callback=x&indexMapping=true&batchSeparator=%7C&schema=true",
    ],
    "headers": [
        b"IEX-HMAC-SHA256 Credential=pk_1/20240102/iex_request, SignedHeaders=host;x-iex-date, Signature="
        + b"a" * 64,
        b"https://www.example.com:8443/a/../b?x", b"http://[::1]:80/ *.example.co.uk/a* https://stra\xc3\x9fe.de",
        b"20240102T101112Z", b"pk_3f9c1d7e52a04b6f8d21c0a79be453168a4a9401",
    ],
}  # fmt: skip
TOKENS = [
    b"", b"\0", b"\xff", b"\xed\xa0\x80", b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\\",
    b"\\u0000", b"\\ud800", b"1e400", b"-0", b"NaN", b"9" * 400, b"[" * 2_000, b"null", b"true", b"%00", b"%",
    b"%ff", b"&", b"=", b"|", b"(" * 300, b" and ", b"not ", b" in ", b"*", b"//", b"@", b"#", b"..", b"%2e",
    b"xn--", b"\xe2\x80\xae", b"2024-02-30", b"0000", b"9999-12-31T23:59:59.999999Z", b"-1", b"+1", b"1_0",
    b"\xd9\xa3", b"0x1F", b"1.",
]  # fmt: skip
LENIENT = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def bent(seeds: list[bytes]) -> Any:
    """A seed with some of its bytes taken out or exchanged for what parsers are weakest against."""

    def bend(seed: bytes, cuts: list[tuple[float, int, bytes]]) -> bytes:
        for at, length, put in cuts:
            place = int(at * len(seed))
            seed = seed[:place] + put + seed[place + length :]
        return seed

    cut = st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(TOKENS))
    return st.builds(bend, st.sampled_from(seeds), st.lists(cut, min_size=1, max_size=6))


@pytest.mark.check("S21", "S34", "S41", "S60")
@pytest.mark.slow("thousands of texts for each parser: 2 to 5 s")
@pytest.mark.parametrize("target", TARGETS)
def test_no_text_makes_a_parser_raise(target: str) -> None:
    @LENIENT
    @given(bent(SEEDS[target]) | st.binary(max_size=200))
    def holds(body: bytes) -> None:
        TARGETS[target](body)

    holds()


@pytest.mark.check("S21", "S34", "S41", "S60")
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_of_the_corpus_makes_a_parser_raise(target: str) -> None:
    texts = json.loads((CORPUS / f"{target.replace(' ', '-')}.json").read_text())

    assert len(texts) > 20
    for text in texts:
        TARGETS[target](text.encode("latin-1"))


@pytest.mark.check("S34")
@pytest.mark.parametrize("target", TARGETS)
def test_pieces_of_all_kinds_in_any_order_raise_nothing(target: str) -> None:
    chance = random.Random(34)
    pieces = [piece for seed in SEEDS[target] for piece in seed.split(b",")] + TOKENS

    for _ in range(400):
        TARGETS[target](b"".join(chance.choices(pieces, k=chance.randint(1, 8))))
