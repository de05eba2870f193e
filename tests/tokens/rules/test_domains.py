"""S21, S22: which pages an Allowed Domain(s) field lets through, and which fields are refused on save."""

import ast
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tokens.rules import page_address
from tokens.rules.domains import (
    RULES_MAX,
    DomainRule,
    Match,
    Reason,
    RuleError,
    load,
    match,
    may_share_a_site,
    origin_of,
    parse_rule,
    parse_rules,
    store,
)
from tokens.rules.page_address import ADDRESS_CHARACTERS_MAX, PageAddress, parse_origin, parse_referer

TESTS = Path(__file__).resolve().parents[2]
CASES = json.loads((TESTS / "cases" / "referer.json").read_text(encoding="utf-8"))


def rule(text: str) -> DomainRule:
    parsed = parse_rule(text)
    assert isinstance(parsed, DomainRule), parsed
    return parsed


def allows(field: str, referer: str | None, origin: str | None = None) -> bool:
    return match(load(field.split()), referer=referer, origin=origin).allowed


# --- the table of cases ---


@pytest.mark.check("S21")
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_every_case_of_the_table(case: dict[str, Any]) -> None:
    _, errors = parse_rules(case["pattern"])

    assert (not errors) == case["pattern_valid"]
    assert allows(case["pattern"], case["referer"], case.get("origin")) == case["allow"], case["why"]


# --- rules on save ---


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("WWW.Example.COM", "www.example.com"),
        ("HTTPS://Example.com/App", "https://example.com/App"),
        ("example.com.", "example.com"),
        ("a_b.Faß.example.com", "a_b.xn--fa-hia.example.com"),
        ("xn--ls8h.ｅｘａｍｐｌｅ.com", "xn--ls8h.example.com"),
        ("example.com/", "example.com"),
        ("example.com/*", "example.com"),
        ("example.com*", "example.com"),
        ("example.com/app/*", "example.com/app/"),
        ("https://example.com:443", "https://example.com"),
        ("http://example.com:80/x", "http://example.com/x"),
        ("example.com:443", "example.com:443"),
        ("https://example.com:80", "https://example.com:80"),
        ("münchen.de", "xn--mnchen-3ya.de"),
        ("*.straße.de", "*.xn--strae-oqa.de"),
        ("ＥXAMPLE。com", "example.com"),
        ("xn--ls8h.la", "xn--ls8h.la"),
        ("[2001:DB8:0:0::1]:8080", "[2001:db8::1]:8080"),
        ("[::ffff:192.0.2.1]", "[::ffff:c000:201]"),
        ("my_site.example.com", "my_site.example.com"),
        ("example.com/a/../b", "example.com/b"),
        ("example.com/a/%2E%2e/b", "example.com/b"),
        ("example.com/straße", "example.com/stra%C3%9Fe"),
        ("example.com/redirect://x", "example.com/redirect://x"),
        ("*.localhost:3000", "*.localhost:3000"),
        ("*.github.io", "*.github.io"),
        ("203.0.113.7/app", "203.0.113.7/app"),
    ],
)
def test_parse_rule_stores_the_canonical_text(text: str, canonical: str) -> None:
    assert str(rule(text)) == canonical
    assert parse_rule(canonical) == rule(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("*", "blank"),
        ("https://*", "blank"),
        ("*.*", "only as *."),
        ("*.com", "of your own"),
        ("*.co.uk", "of your own"),
        ("*.com*", "of your own"),
        ("*.CO.UK.", "of your own"),
        ("*.рф", "of your own"),
        ("*.203.0.113.7", "of your own"),
        ("*.[::1]", "of your own"),
        ("www.*.com", "only as *."),
        ("example.*", "only as *."),
        ("ex*mple.com", "only as *."),
        ("**.example.com", "only as *."),
        ("example.com**", "only as *."),
        ("example.com/*/x", "inside the path"),
        ("example.com/**", "inside the path"),
        ("localhost:*", "port"),
        ("example.com:", "port"),
        ("example.com:0", "port"),
        ("example.com:65536", "port"),
        ("example.com:080", "port"),
        ("example.com:٣", "port"),
        ("me:secret@example.com", "user name"),
        ("example.com/a?b", "from ? or # on"),
        ("example.com#a", "from ? or # on"),
        ("a.com,b.com", "spaces, not by commas"),
        ("example.com\\app", "instead of"),
        ("203.0.113.0/24", "ranges"),
        ("203.0.113.0/./24", "ranges"),
        ("[2001:db8::]/32", "ranges"),
        ("2001:db8::1", "brackets"),
        ("[fe80::1%eth0]", "host name"),
        ("[2001:db8::1]x", "port|host name"),
        ("ftp://example.com", "http:// or https://"),
        ("file:///etc/hosts", "http:// or https://"),
        ("//example.com", "Remove the //"),
        ("https://", "host name"),
        ("/app", "host name"),
        ("a..example.com", "host name"),
        (".example.com", "host name"),
        ("203.0.113.007", "host name"),
        ("0x7f.1", "host name"),
        ("a" * 64 + ".com", "host name"),
        ("a." * 127 + "com", "host name"),
        ("exa%6dple.com", "host name"),
        ("xn--a.com", "host name"),
        ("exa\u00admple.com\u200b", "invisible"),
        ("example.com\x00", "invisible"),
        ("a.com b.com", "spaces"),
        ("example.com/" + "a" * 2048, "1 to 2048"),
        ("", "1 to 2048"),
        ("example.com/app/..", "without . or .."),
        ("example.com/app/%2e*", "without . or .."),
    ],
)
def test_parse_rule_refuses_and_says_what_would_be_right(text: str, words: str) -> None:
    parsed = parse_rule(text)

    assert isinstance(parsed, RuleError)
    assert any(word in parsed.needed for word in words.split("|")), parsed
    assert parsed.needed.endswith(".")
    assert parsed.text == text


def test_parse_rules_names_every_wrong_piece_and_keeps_the_order_of_the_others() -> None:
    rules, errors = parse_rules(" b.com \t *.com a.com\nB.com x@y.com ")

    assert [str(found) for found in rules] == ["b.com", "a.com"]
    assert [error.text for error in errors] == ["*.com", "x@y.com"]


def test_parse_rules_bounds_their_number() -> None:
    fits = " ".join(f"a{number}.com" for number in range(RULES_MAX))

    assert parse_rules(fits)[1] == ()
    assert "at most" in parse_rules(fits + " one-more.com")[1][0].needed


def test_rule_error_shows_a_long_text_shortened() -> None:
    assert len(str(RuleError("x" * 5000, "Too long."))) < 80


# --- stored rules ---


def test_a_stored_rule_that_cannot_be_read_matches_nothing_and_does_not_open_the_list() -> None:
    """Fail closed: a list of only bad rules is not the blank list."""
    rules = load(["*.com", ""])

    assert store(rules) == ["*.com", ""]
    assert match(rules, referer="https://evil.com/", origin=None).reason is Reason.NO_RULE
    assert not may_share_a_site(rules, rules)


def test_load_reads_what_store_wrote() -> None:
    rules, _ = parse_rules("https://*.example.com/app münchen.de:8080 [::1]")

    assert load(store(rules)) == rules


# --- headers ---


@pytest.mark.parametrize(
    ("referer", "origin", "reason"),
    [
        (None, None, Reason.NO_HEADER),
        ("", None, Reason.MALFORMED_REFERER),
        ("", "https://example.com", Reason.MALFORMED_REFERER),
        ("https://example.com\\x", "https://example.com", Reason.MALFORMED_REFERER),
        ("https://example.com/" + "a" * 4096, "https://example.com", Reason.MALFORMED_REFERER),
        ("null", "https://example.com", Reason.MALFORMED_REFERER),
        (None, "", Reason.MALFORMED_ORIGIN),
        (None, "null", Reason.MALFORMED_ORIGIN),
        (None, "https://example.com/", Reason.MALFORMED_ORIGIN),
        (None, "https://example.com?x", Reason.MALFORMED_ORIGIN),
        (None, "example.com", Reason.MALFORMED_ORIGIN),
        (None, "https://a@example.com", Reason.MALFORMED_ORIGIN),
        ("https://example.com/", "null", Reason.ORIGIN_MISMATCH),
        ("https://example.com/", "http://example.com", Reason.ORIGIN_MISMATCH),
        ("https://example.com/", "https://example.com:8443", Reason.ORIGIN_MISMATCH),
        ("https://example.com/", "", Reason.ORIGIN_MISMATCH),
        ("example.com/", "https://example.com", Reason.ORIGIN_MISMATCH),
        ("https://evil.com/", "https://evil.com", Reason.NO_RULE),
        (None, "https://evil.com", Reason.NO_RULE),
        ("https://evil.com/", "https://example.com", Reason.ORIGIN_MISMATCH),
        ("https://example.com/", "https://example.com", None),
        ("https://example.com/", "https://example.com:443", None),
        (None, "http://example.com", None),
    ],
)
def test_match_says_why_not(referer: str | None, origin: str | None, reason: Reason | None) -> None:
    found = match(load(["example.com"]), referer=referer, origin=origin)

    assert found == Match(reason)
    assert found.allowed == (reason is None)
    assert bool(found.detail) == (reason is not None)
    assert "example.com" not in found.detail


def test_origin_alone_does_not_meet_a_rule_with_a_path() -> None:
    assert not allows("example.com/app", None, "https://example.com")
    assert allows("example.com/app", "https://example.com/app", "https://example.com")


@pytest.mark.parametrize(
    ("field", "referer"),
    [
        ("*.example.com", "https://.example.com/"),
        ("*.example.com", "https://a.example.com../"),
        ("*.example.com", "https://xn--a.example.com/"),
        ("*.example.com", "https://xn--.example.com/"),
        ("*.example.com", "https://" + "xn--ls8h." * 100 + "example.com/"),
        ("*.1", "https://a.1/"),
        ("example.com", "https://example.com:/"),
        ("example.com", "https://example.com:0443/"),
        ("example.com", "https://example.com:99999999999/"),
        ("example.com", "https://EXAMPLE.com@evil.com/"),
        ("example.com", "https://[example.com]/"),
        ("example.com", "https:///example.com/"),
        ("example.com", "javascript://example.com/%0aalert(1)"),
        ("example.com", "blob:https://example.com/uuid"),
        ("example.com", "view-source:https://example.com/"),
        ("example.com", "https://example.com\u2028/"),
        ("example.com", "https://example.com\u00ad/"),
        ("example.com", "\thttps://example.com/"),
        ("example.com", "example.com:443/"),
        ("https://example.com", "example.com/"),
        ("[2001:db8::1]", "http://[2001:db8:0:0:0:0:0:1]/"),
        ("[::ffff:c000:201]", "http://[::ffff:192.0.2.1]/"),
        ("127.0.0.1", "http://2130706433/"),
        ("127.0.0.1", "http://127.1/"),
        ("127.0.0.1", "http://127.0.0.1./"),
        ("example.com/app", "https://example.com/x/%2e%2E/../app/.%2e/admin"),
        ("example.com/app", "https://example.com/App"),
        ("example.com/a/b", "https://example.com/a%2fb"),
    ],
)
def test_match_refuses_addresses_that_only_look_right(field: str, referer: str) -> None:
    assert not allows(field, referer)


@pytest.mark.parametrize(
    ("field", "referer"),
    [
        ("example.com", "HTTPS://EXAMPLE.COM./x"),
        ("example.com:80", "http://example.com/"),
        ("example.com:443", "https://example.com/"),
        ("example.com:8080", "example.com:8080/x"),
        ("example.com", "https://example.com/me@home?u=a@b"),
        ("example.com", "https://example.com?next=https://evil.com/"),
        ("example.com/app", "https://example.com/x/%2e%2e/app/./y"),
        ("*.example.com", "https://a_b.c--d.-x-.example.com/"),
        ("*.example.com", "https://" + "a." * 1500 + "example.com/"),
        ("[2001:db8::1]", "http://[2001:DB8::1]/"),
        ("[::ffff:c000:201]", "http://[::ffff:c000:201]/"),
        ("xn--ls8h.la", "https://xn--ls8h.la/"),
    ],
)
def test_match_allows_other_ways_to_write_the_same_page(field: str, referer: str) -> None:
    assert allows(field, referer)


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://Example.com:443/x?y", "https://example.com"),
        ("http://example.com:8080", "http://example.com:8080"),
        ("http://[::1]:3000/", "http://[::1]:3000"),
        ("example.com/x", None),
        ("null", None),
        ("https://a@b.com/", None),
    ],
)
def test_origin_of_a_page(address: str, origin: str | None) -> None:
    assert origin_of(address) == origin


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("", "a.com", True),
        ("a.com", "", True),
        ("a.com", "b.com", False),
        ("a.com b.com", "b.com c.com", True),
        ("a.com", "www.a.com", False),
        ("*.a.com", "www.a.com", True),
        ("*.a.com", "a.com", False),
        ("*.a.com", "*.b.a.com", True),
        ("*.a.com", "*.ba.com", False),
        ("http://a.com", "https://a.com", False),
        ("http://a.com", "a.com", True),
        ("a.com:8080", "a.com", False),
        ("http://a.com:443", "https://a.com", False),
        ("a.com:443", "a.com", True),
        ("https://a.com:80", "http://a.com", False),
        ("a.com/app", "a.com/application", True),
        ("a.com/app", "a.com/other", False),
        ("a.com/app", "a.com", True),
    ],
)
def test_may_share_a_site(first: str, second: str, shared: bool) -> None:
    one, other = load(first.split()), load(second.split())

    assert may_share_a_site(one, other) is shared
    assert may_share_a_site(other, one) is shared


@pytest.mark.check("S22")
def test_work_is_bounded_for_long_referers_and_many_rules() -> None:
    """S22: 4 kB against 50 rules is a few milliseconds of work; twenty times the mark is allowed here."""
    rules, errors = parse_rules(
        " ".join(f"*.{'a.' * 100}example{number}.com/{'p' * 500}" for number in range(50))
    )
    assert not errors
    referers = [
        "https://" + "a." * 2030 + "com/",
        "https://example.com/" + "../" * 1350,
        "https://example.com/" + "%2e%2e/" * 580,
        "https://" + "xn--ls8h." * 450 + "com/",
        "https://[" + ":" * 4000 + "]/",
        "https://" + "9" * 4000,
        "*" * 4096,
    ]

    for referer in referers:
        started = time.process_time()
        match(rules, referer=referer, origin=None)
        assert time.process_time() - started < 0.1


# --- properties ---

labels = st.from_regex(r"\A[a-z0-9_]([a-z0-9_-]{0,8}[a-z0-9_])?\Z").filter(
    lambda text: not text.startswith("xn--")
)
hosts = st.lists(labels, min_size=1, max_size=4).map(lambda found: ".".join([*found, "example"]))
paths = st.lists(
    st.sampled_from(["", "a", "B", "app", ".", "..", "%2e", "x%2Fy", "~", ";v=1", "@"]), max_size=4
)
rules = st.builds(
    DomainRule,
    host=st.one_of(hosts, st.sampled_from(["203.0.113.7", "[2001:db8::1]", "xn--mnchen-3ya.de"])),
    protocol=st.sampled_from(["", "http", "https"]),
    wildcard=st.booleans(),
    port=st.one_of(st.none(), st.integers(1, 65535)),
    path=paths.map(lambda found: "/" + "/".join(found) if found else ""),
)


@given(rules)
def test_canonical_text_parses_to_itself(drawn: DomainRule) -> None:
    parsed = parse_rule(str(drawn))
    assume(isinstance(parsed, DomainRule))

    assert parse_rule(str(parsed)) == parsed


def page_of(drawn: DomainRule) -> str:
    protocol = drawn.protocol or "https"
    port = "" if drawn.port is None else f":{drawn.port}"
    return f"{protocol}://{'sub.' if drawn.wildcard else ''}{drawn.host}{port}{drawn.path or '/'}"


@given(rules, st.text("ab/.%2eXY", max_size=10))
def test_a_rule_matches_a_page_built_from_it_and_its_spellings_agree(drawn: DomainRule, query: str) -> None:
    parsed = parse_rule(str(drawn))
    assume(isinstance(parsed, DomainRule))
    assert isinstance(parsed, DomainRule)
    page = page_of(parsed)
    authority, slash, path = page.partition("://")[2].partition("/")
    protocol = page.partition("://")[0]

    assert match([parsed], referer=page, origin=None).allowed
    assert match([parsed], referer=page, origin=origin_of(page)).allowed
    assert match([parsed], referer=f"{page}?{query}", origin=None).allowed
    assert match(
        [parsed], referer=f"{protocol.upper()}://{authority.upper()}{slash}{path}", origin=None
    ).allowed
    assert not match([parsed], referer=f"{page}#", origin=None).allowed
    assert not match([parsed], referer=f"{protocol}://user@{authority}{slash}{path}", origin=None).allowed
    assert may_share_a_site([parsed], [parsed])


@given(hosts, hosts, st.sampled_from(["http", "https"]))
def test_writing_the_default_port_changes_no_answer(allowed: str, called: str, protocol: str) -> None:
    port = {"http": 80, "https": 443}[protocol]
    listed = load([allowed, f"*.{called}"])

    plain = match(listed, referer=f"{protocol}://{called}/", origin=None)
    written = match(listed, referer=f"{protocol}://{called}:{port}/", origin=None)

    assert plain == written


@given(st.text(max_size=40), st.text(max_size=40))
@example("*", "*")
@example("*.", "https://.")
@example("[", "http://[")
@example("a:", "https://a:")
def test_any_text_is_answered_and_never_raises(field: str, header: str) -> None:
    parse_rules(field)
    listed = load(field.split())
    match(listed, referer=header, origin=None)
    match(listed, referer=None, origin=header)


LABELS = st.lists(st.text("aexmplco0_-", min_size=1, max_size=6), min_size=1, max_size=4)


@given(
    LABELS.map(".".join), st.sampled_from(["", ":443", ":8443", ":80"]), st.text("/aexm?.%20-_*", max_size=20)
)
def test_what_parses_is_in_the_form_browsers_write(host: str, port: str, rest: str) -> None:
    page = parse_referer(f"https://{host}{port}/{rest}")
    assume(page is not None)
    assert isinstance(page, PageAddress)

    assert page.origin is not None
    assert parse_origin(page.origin) == PageAddress(page.protocol, page.host, page.port, "/")
    assert page.path.startswith("/")


@pytest.mark.check("S22")
def test_nothing_is_compiled_from_a_rule_or_a_header() -> None:
    """S22: rules and headers are parsed by hand; no expression can be built from what a user wrote."""
    folder = Path(page_address.__file__).parent
    for name in ("domains.py", "page_address.py"):
        tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        imported = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        } | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

        assert not imported & {"re", "fnmatch", "glob", "regex"}, name


@pytest.mark.check("S22")
def test_a_header_longer_than_4096_characters_is_not_looked_at() -> None:
    """S22: the work is bounded by the length, and the longest that is read still is."""
    longest = "https://example.com/" + "a" * (ADDRESS_CHARACTERS_MAX - len("https://example.com/"))

    assert allows("example.com", longest)
    assert parse_referer(longest + "a") is None
    assert not allows("example.com", longest + "a")
