"""Token values: what is made parses, what is mistyped does not, what is shown hides the rest."""

import hashlib
import random
import re
from collections import Counter
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokens.rules.token_format import (
    VALUE_PATTERN,
    ParsedValue,
    TokenKind,
    digest,
    make,
    mask,
    mask_in_text,
    new_public_id,
    parse,
)

HEX = "0123456789abcdef"
PUBLISHABLE = "pk_3f9c1d7e52a04b6f8d21c0a79be453168a4a9401"
SECRET = "sk_3f9c1d7e52a04b6f8d21c0a79be453160199aa18"
LEGACY = PUBLISHABLE[:35]


@pytest.mark.parametrize("kind", TokenKind)
def test_make_gives_a_value_that_parses_to_its_kind(kind: TokenKind) -> None:
    value = make(kind)

    assert re.fullmatch(f"{kind.prefix}[0-9a-f]{{40}}", value)
    assert parse(value) == ParsedValue(value, kind, has_checksum=True)


@pytest.mark.parametrize(
    ("value", "kind"), [(PUBLISHABLE, TokenKind.PUBLISHABLE), (SECRET, TokenKind.SECRET)]
)
def test_parse_takes_a_value_written_down_before(value: str, kind: TokenKind) -> None:
    """The checksum is part of what holders keep: it must never change between releases."""
    assert parse(value) == ParsedValue(value, kind, has_checksum=True)


def test_parse_takes_an_old_publishable_value_and_says_it_has_no_checksum() -> None:
    assert parse(LEGACY) == ParsedValue(LEGACY, TokenKind.PUBLISHABLE, has_checksum=False)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("pk_", id="prefix alone"),
        pytest.param(PUBLISHABLE.upper(), id="upper case"),
        pytest.param("PK_" + PUBLISHABLE[3:], id="upper-case prefix"),
        pytest.param(PUBLISHABLE + "0", id="one more"),
        pytest.param(PUBLISHABLE[:-1], id="one less"),
        pytest.param(" " + PUBLISHABLE, id="space before"),
        pytest.param(PUBLISHABLE + "\n", id="newline after"),
        pytest.param(PUBLISHABLE[:-1] + "\x00", id="NUL"),
        pytest.param(SECRET[:35], id="old secret value"),
        pytest.param("sk_" + PUBLISHABLE[3:], id="kind exchanged"),
        pytest.param("tk_" + PUBLISHABLE[3:], id="unknown prefix"),
        pytest.param(PUBLISHABLE + "," + PUBLISHABLE, id="two joined"),
        pytest.param("pk_" + "٣" * 40, id="digits of another script"),
        pytest.param("pk_" + "\ud800" * 40, id="lone surrogates"),
    ],
)
def test_parse_refuses_malformed_values(value: str) -> None:
    assert parse(value) is None


@pytest.mark.check("S05")
def test_parse_refuses_ten_thousand_mutated_values() -> None:
    """S05: one to three characters changed, or two neighbours exchanged, never parse."""
    chance = random.Random(5)

    for _ in range(10_000):
        value = make(chance.choice(list(TokenKind)))
        characters = list(value)
        if chance.random() < 0.3:
            at = chance.randrange(3, len(value) - 1)
            characters[at], characters[at + 1] = characters[at + 1], characters[at]
        else:
            for at in chance.sample(range(len(value)), chance.randint(1, 3)):
                characters[at] = chance.choice(HEX + "pskgz_-A ")
        mutated = "".join(characters)
        assert mutated == value or parse(mutated) is None, (value, mutated)


@given(st.text(max_size=60))
def test_parse_and_mask_take_any_text(text: str) -> None:
    parse(text)
    digest(text)
    assert len(mask(text)) <= 19


@pytest.mark.check("S04")
def test_made_values_are_distinct_and_evenly_spread() -> None:
    """S04, light: no duplicates, and χ² over all random positions stays below an impossible bound."""
    values = [make(TokenKind.PUBLISHABLE) for _ in range(5_000)]

    counts = Counter("".join(value[3:35] for value in values))
    expected = len(values) * 32 / 16
    chi_squared = sum((counts[character] - expected) ** 2 / expected for character in HEX)
    assert len(set(values)) == len(values)
    assert chi_squared < 60  # 15 degrees of freedom: p below 3e-7


def test_digest_is_the_sha_256_of_the_value() -> None:
    assert digest(PUBLISHABLE) == hashlib.sha256(PUBLISHABLE.encode()).digest()
    assert len(digest(PUBLISHABLE)) == 32


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (PUBLISHABLE, "pk_3f9c1d7e52a…9401"),
        (LEGACY, "pk_3f9c1d7e52a…5316"),
        (SECRET, "sk_…aa18"),
        (SECRET.upper(), "SK_…AA18"),
        ("sk_12345", "sk_…"),
        ("hunter2", "…"),
        ("", ""),
    ],
)
def test_mask_shows_no_more_than_it_may(value: str, shown: str) -> None:
    assert mask(value) == shown


@pytest.mark.check("S09")
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("GET /v1/data/WS/D?token={} HTTP/1.1", id="query"),
        pytest.param("Authorization: Bearer {}", id="header"),
        pytest.param("token%3D{}%26x", id="encoded delimiter"),
        pytest.param("{},{}", id="two"),
        pytest.param('{{"token":"{}"}}', id="JSON"),
        pytest.param("x{}x", id="no boundary"),
    ],
)
@pytest.mark.parametrize(
    "write",
    [
        str,
        str.upper,
        lambda value: value.replace("_", "%5F"),
        lambda value: "".join(f"%{ord(character):02x}" for character in value),
        lambda value: value[:25],
        lambda value: value[:20] + "g" + value[21:],
    ],
    ids=["plain", "upper", "underscore encoded", "all encoded", "truncated", "mistyped"],
)
def test_mask_in_text_leaves_no_secret_behind(text: str, write: object) -> None:
    """S09: whatever way a secret is written into a line, the line does not give it away."""
    assert callable(write)
    written = write(SECRET)

    masked = mask_in_text(text.format(written, written))

    for length in (12, len(written)):
        assert written[8 : 8 + length].lower() not in masked.lower()


def test_mask_in_text_keeps_what_is_no_token() -> None:
    line = f"GET /v1/data/WS/RISK_TABLE?last=5&token={PUBLISHABLE} id={'0' * 32} {quote('a b')}"

    assert mask_in_text(line) == line.replace(PUBLISHABLE, "pk_3f9c1d7e52a…9401")


@pytest.mark.check("S05")
def test_value_pattern_finds_a_planted_value() -> None:
    assert re.findall(VALUE_PATTERN, f'key = "{SECRET}" # {PUBLISHABLE}') == [SECRET, PUBLISHABLE]


def test_public_ids_have_their_form_and_differ() -> None:
    ids = {new_public_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(re.fullmatch(r"tok_[0-9a-hjkmnp-tv-z]{8}", public_id) for public_id in ids)
