"""S21: a matcher written separately from the rules alone decides as ours does (see second_matcher)."""

import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import second_matcher
from tokens.rules.domains import load, match, parse_rules

TESTS = Path(__file__).resolve().parents[2]
CASES = json.loads((TESTS / "cases" / "referer.json").read_text(encoding="utf-8"))
SEED = 20_261_126
NUMBER_OF_CASES = 10_000

NAMES = [
    "example.com", "www.example.com", "a.b.example.com", "a_b.example.com", "localhost",
    "example.co.uk", "me.github.io", "www.ck", "xn--mnchen-3ya.de", "xn--strae-oqa.de",
    "xn--wgv71a119e.jp", "xn--ls8h.la", "-x-.example.com", "a--b.com", "127.0.0.1", "203.0.113.7",
    "1.a", "[::1]", "[2001:db8::1]", "[::ffff:c000:201]",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.com",
]  # fmt: skip
ODD_NAMES = [
    "com", "co.uk", "github.io", "foo.ck", "ck", "kawasaki.jp", "münchen.de", "MÜNCHEN.de",
    "munchen.de", "straße.de", "strasse.de", "faß.example.com", "日本語.jp", "ｅｘａｍｐｌｅ.com",
    "example。com", "公司.cn", "xn--55qx5d.cn", "💩.la", "xn--a.com", "xn--.com", "xn--abc-.com",
    "example.com.evil.com", "notexample.com", "127.1", "0x7f.0.0.1", "2130706433", "127.0.0.01",
    "203.0.113.256", "1.2.3", "a.1", "[2001:DB8::1]", "[2001:db8:0::1]", "[::ffff:192.0.2.1]",
    "[::1", "::1", "[fe80::1%25eth0]", "exa%6dple.com", "ex*mple.com", "example..com",
    ".example.com", "a;b.com", "a!b.com",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.com", "exa mple.com", "",
]  # fmt: skip
PROTOCOLS = [
    "", "", "http://", "https://", "https://", "HTTPS://",
]  # fmt: skip
PORTS = [
    "", "", "", ":80", ":443", ":8080", ":8443",
]  # fmt: skip
ODD_PORTS = [
    ":", ":0", ":080", ":65535", ":65536", ":*", ":x", ":٣", ":99999999999",
]  # fmt: skip
PATHS = [
    "/", "/app", "/app/", "/app/stock", "/App", "/apple", "//app", "/a%2Fb", "/a/b", "/app;v=1",
    "/x~y", "/app/@me", "/app:1", "/24", "",
]  # fmt: skip
ODD_PATHS = [
    "/app/..", "/x/../app", "/%2e%2E/app", "/app/.%2e/admin", "/./app", "/app/.", "/app/...",
    "/../../app/x", "/app/%2e", "/?x=/app", "?x", "?x@y", "/app?next=https://evil.com/", "/app#x",
    "/a\\b", "/a,b",
]  # fmt: skip
SIGNS = [*"./:@?#*%\\,;[]_- \t\n\0~1aX", "é", "。", "\u200d", "xn--", "%2e", "://", "evil.com", "http://"]


@dataclass(frozen=True)
class Site:
    """What the rules and the headers of a case are mostly about: such cases are near the border."""

    host: str
    port: str
    path: str


def changed(text: str, chance: random.Random) -> str:
    """The text with one piece put in, taken away, in other letters, or before or after another host."""
    at = chance.randrange(len(text) + 1)
    return chance.choice(
        [
            text[:at] + chance.choice(SIGNS) + text[at:],
            text[:at] + text[at + 1 :],
            text[:at] + text[at:].swapcase(),
            f"https://evil.com/{text}",
            f"https://user:pw@{text.rpartition('://')[2]}",
            f"{text}.evil.com",
            f"{text}@evil.com/",
        ]
    )


def any_name(chance: random.Random) -> str:
    return chance.choice(ODD_NAMES if chance.random() < 0.25 else NAMES)


def any_host(chance: random.Random, near: Site) -> str:
    """The near host, one below or above it, or any."""
    below = chance.choice(["www.", "a.b.", "a_b.", "x", "xn--ls8h.", ".", "*."]) + near.host
    above = near.host.partition(".")[2]
    return chance.choices([near.host, below, above, near.host + ".", any_name(chance)], [12, 4, 1, 1, 1])[0]


def any_port(chance: random.Random, near: Site) -> str:
    return chance.choices([near.port, chance.choice(PORTS), chance.choice(ODD_PORTS)], [20, 6, 1])[0]


def any_path(chance: random.Random, near: Site) -> str:
    odd = chance.choice(ODD_PATHS)
    return chance.choices([near.path, "", near.path + odd, odd, chance.choice(PATHS)], [10, 4, 1, 1, 3])[0]


def any_rule(chance: random.Random, near: Site) -> str:
    wildcard = chance.choices(["", "*.", "*", "*.*."], [20, 10, 1, 1])[0]
    end = chance.choices(["", "*", "**"], [20, 3, 1])[0]
    site = any_host(chance, near) + any_port(chance, near) + any_path(chance, near)
    rule = chance.choice(PROTOCOLS) + wildcard + site + end
    return changed(rule, chance) if chance.random() < 0.05 else rule


def any_page(chance: random.Random, near: Site) -> str:
    site = any_host(chance, near) + any_port(chance, near) + any_path(chance, near)
    page = site if chance.random() < 0.05 else chance.choice(PROTOCOLS[2:]) + site
    return changed(page, chance) if chance.random() < 0.1 else page


def any_origin(chance: random.Random, near: Site, referer: str | None) -> str | None:
    """None, or the Referer's own origin more often than not, or another."""
    protocol, _, rest = (referer or "").partition("://")
    own = f"{protocol}://{rest.partition('/')[0].partition('?')[0]}"
    other = chance.choice(["null", "", own + "/", own + ":443", f"{own} {own}", changed(own, chance)])
    made = chance.choice(PROTOCOLS[2:]) + any_host(chance, near) + any_port(chance, near)
    return chance.choices([None, own, made, other], [6, 3, 1, 1] if referer else [1, 0, 9, 1])[0]


def any_case(chance: random.Random) -> tuple[str, str | None, str | None]:
    near = Site(any_name(chance), chance.choice(PORTS), chance.choice(PATHS))
    number = chance.choices([0, 1, 2, 3], [1, 20, 10, 10])[0]
    field = " ".join(any_rule(chance, near) for _ in range(number))
    referer = any_page(chance, near) if chance.random() < 0.7 else None
    return field, referer, any_origin(chance, near, referer)


def ours(field: str, referer: str | None, origin: str | None) -> tuple[bool, bool]:
    valid = not parse_rules(field)[1]
    return valid, match(load(field.split()), referer=referer, origin=origin).allowed


def theirs(field: str, referer: str | None, origin: str | None) -> tuple[bool, bool]:
    return second_matcher.is_valid(field), second_matcher.allows(field, referer, origin)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_second_matcher_agrees_on_every_case_of_the_table(case: dict[str, object]) -> None:
    asked = (case["pattern"], case["referer"], case.get("origin"))

    assert theirs(*asked) == (case["pattern_valid"], case["allow"]), case["why"]  # type: ignore[arg-type]


@pytest.mark.check("S21")
def test_the_matchers_agree_on_10000_cases() -> None:
    chance = random.Random(SEED)
    decided: Counter[tuple[bool, bool]] = Counter()
    differences = []

    for _ in range(NUMBER_OF_CASES):
        case = any_case(chance)
        answer = ours(*case)
        decided[answer] += 1
        if answer != theirs(*case):
            differences.append((case, answer))

    assert differences == []
    # The cases are worth something: good and bad fields, and pages that pass and that do not.
    assert len(decided) == 4 and min(decided.values()) > NUMBER_OF_CASES / 100, decided


letters = st.lists(st.sampled_from([*SIGNS, *"comxe/..", "example.com"]), max_size=12).map("".join)


@pytest.mark.check("S21")
@settings(derandomize=True, max_examples=300, deadline=None)
@given(letters, st.one_of(st.none(), letters), st.one_of(st.none(), letters))
def test_the_matchers_agree_on_any_text(field: str, referer: str | None, origin: str | None) -> None:
    assert ours(field, referer, origin) == theirs(field, referer, origin)
