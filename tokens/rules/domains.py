"""Allowed Domain(s): parses a token's rules, and decides whether a page matches one. Pure: no Django here.

A rule is `[http://|https://]host[:port][/path][*]`; rules are separated by white space, and no rules
means any domain. Source: docs/security-checks.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote

import idna
from publicsuffixlist import PublicSuffixList

from tokens.rules import page_address
from tokens.rules.page_address import DEFAULT_PORTS, PageAddress

RULES_MAX = 50
RULE_CHARACTERS_MAX = 2048

_ASCII = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class DomainRule:
    """One allowed site. `protocol` "" is either, `port` None the protocol's default, `path` "" any path.

    A stored text that is not a rule becomes an unreadable one: it matches nothing, and its list is not blank.
    """

    host: str
    protocol: str = ""
    wildcard: bool = False
    port: int | None = None
    path: str = ""
    readable: bool = True

    def __str__(self) -> str:
        protocol = f"{self.protocol}://" if self.protocol else ""
        port = "" if self.port is None else f":{self.port}"
        return f"{protocol}{'*.' if self.wildcard else ''}{self.host}{port}{self.path}"

    def meets(self, page: PageAddress) -> bool:
        """Whether a page is on this site."""
        if not self.readable or (self.protocol and self.protocol != page.protocol):
            return False
        # A page without a protocol has no default port: only the port it names can match.
        port = DEFAULT_PORTS.get(page.protocol) if self.port is None else self.port
        if port != page.port:
            return False
        if self.wildcard:
            return page.host.endswith(f".{self.host}") and page.path.startswith(self.path)
        return page.host == self.host and page.path.startswith(self.path)


@dataclass(frozen=True, slots=True)
class RuleError:
    """A piece of the field that is not a rule, and a sentence that says what would be right."""

    text: str
    needed: str

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 60 else self.text[:59] + "…"
        return f"“{shown}”: {self.needed}"


class Reason(StrEnum):
    """Why a page does not match a list."""

    NO_HEADER = "no_header"
    MALFORMED_REFERER = "malformed_referer"
    MALFORMED_ORIGIN = "malformed_origin"
    ORIGIN_MISMATCH = "origin_mismatch"
    NO_RULE = "no_rule"


SENTENCES = {
    Reason.NO_HEADER: "The request has neither a Referer nor an Origin header, and this token is limited to "
    "certain sites.",
    Reason.MALFORMED_REFERER: "The Referer header is not one that a browser sends.",
    Reason.MALFORMED_ORIGIN: "The Origin header does not name one site.",
    Reason.ORIGIN_MISMATCH: "The Origin header is not the origin of the page in the Referer header.",
    Reason.NO_RULE: "The page that called is not on the list of sites allowed for this token. Browsers send "
    "only the origin, without the path, when a page calls another site.",
}


@dataclass(frozen=True, slots=True)
class Match:
    """Whether a request comes from an allowed site; `reason` is set only if not."""

    reason: Reason | None = None

    @property
    def allowed(self) -> bool:
        return self.reason is None

    @property
    def detail(self) -> str:
        """The reason as a sentence that does not reveal the allowed sites."""
        return "" if self.reason is None else SENTENCES[self.reason]


def match(rules: Sequence[DomainRule], *, referer: str | None, origin: str | None) -> Match:
    """Whether a request with these headers comes from a site on the list; a blank list allows any.

    Origin alone matches rules without a path. With both, the Referer must match a rule and the Origin
    must be the Referer's. A header that is present but malformed is refused.
    """
    if not rules:
        return Match()
    if referer is None and origin is None:
        return Match(Reason.NO_HEADER)
    if referer is None:
        page = page_address.parse_origin(origin or "")
        if page is None:
            return Match(Reason.MALFORMED_ORIGIN)
    else:
        page = page_address.parse_referer(referer)
        if page is None:
            return Match(Reason.MALFORMED_REFERER)
        if origin is not None:
            named = page_address.parse_origin(origin)
            if named is None or named.origin != page.origin:
                return Match(Reason.ORIGIN_MISMATCH)
    # An Origin has the path "/", which no rule with a path matches.
    return Match() if any(rule.meets(page) for rule in rules) else Match(Reason.NO_RULE)


def origin_of(address: str) -> str | None:
    """Return the origin of a Referer or Origin as a browser writes it, or None when it has none."""
    page = page_address.parse_referer(address)
    return None if page is None else page.origin


def may_share_a_site(first: Sequence[DomainRule], second: Sequence[DomainRule]) -> bool:
    """Whether some page could satisfy both lists; False means nobody can call while both count."""
    if not first or not second:
        return True
    return any(_overlap(one, other) for one in first for other in second if one.readable and other.readable)


def _overlap(one: DomainRule, other: DomainRule) -> bool:
    protocols = [name for name in DEFAULT_PORTS if {one.protocol, other.protocol} <= {"", name}]
    ports_meet = any(
        (one.port or DEFAULT_PORTS[name]) == (other.port or DEFAULT_PORTS[name]) for name in protocols
    )
    paths_meet = one.path.startswith(other.path) or other.path.startswith(one.path)
    return ports_meet and paths_meet and _hosts_overlap(one, other)


def _hosts_overlap(one: DomainRule, other: DomainRule) -> bool:
    if one.host == other.host:
        return one.wildcard == other.wildcard
    return (other.wildcard and one.host.endswith(f".{other.host}")) or (
        one.wildcard and other.host.endswith(f".{one.host}")
    )


def load(texts: Sequence[str]) -> tuple[DomainRule, ...]:
    """Return stored rules; one that cannot be read keeps its place and matches nothing."""
    parsed = ((text, parse_rule(text)) for text in texts)
    return tuple(
        DomainRule(text, readable=False) if isinstance(rule, RuleError) else rule for text, rule in parsed
    )


def store(rules: Sequence[DomainRule]) -> list[str]:
    """Return the canonical texts to store."""
    return [str(rule) for rule in rules]


def parse_rules(text: str) -> tuple[tuple[DomainRule, ...], tuple[RuleError, ...]]:
    """Return a field's rules, each once and in order, and every piece that is not one."""
    rules: dict[DomainRule, None] = {}
    errors: list[RuleError] = []
    for piece in text.split():
        parsed = parse_rule(piece)
        if isinstance(parsed, RuleError):
            errors.append(parsed)
        else:
            rules[parsed] = None
    if len(rules) > RULES_MAX:
        errors.append(RuleError(str(list(rules)[RULES_MAX]), f"Keep at most {RULES_MAX} rules."))
    return tuple(rules), tuple(errors)


def parse_rule(text: str) -> DomainRule | RuleError:
    """Return one rule in canonical form, or what would be right."""
    wrong = _wrong_characters(text) or _wrong_protocol(text)
    if wrong:
        return RuleError(text, wrong)
    protocol, rest = page_address.split_protocol(text)
    authority, path = page_address.split_path(rest.removesuffix("*"))
    wildcard = authority.startswith("*.")
    wrong = _wrong_star(rest, authority, path) or _wrong_authority(authority)
    if wrong:
        return RuleError(text, wrong)
    host_text, colon, port_text = _split_port(authority.removeprefix("*."))
    host = _rule_host(host_text)
    if host is None:
        return RuleError(text, "Write a host name such as www.example.com, or an IP address.")
    port = page_address.parse_port(port_text)
    if colon and port is None:
        return RuleError(text, "Write the port as a number from 1 to 65535.")
    is_address = host.startswith("[") or page_address.is_ipv4(host)
    if wildcard and (is_address or _is_public_suffix(host)):
        return RuleError(text, "Write a domain of your own after *. , such as *.example.com.")
    plain_path = _rule_path(path)
    if plain_path is None:
        return RuleError(text, "Write the path without . or .. at its end.")
    if is_address and len(plain_path) <= 4 and plain_path[1:].isdigit():
        return RuleError(text, "Address ranges are not possible; write each address by itself.")
    return DomainRule(
        host, protocol, wildcard, None if port == DEFAULT_PORTS.get(protocol) else port, plain_path
    )


def _wrong_characters(text: str) -> str | None:
    if not text or len(text) > RULE_CHARACTERS_MAX:
        return f"Write a rule of 1 to {RULE_CHARACTERS_MAX} characters."
    if not text.isprintable() or text.split() != [text]:
        return "Write the rule without spaces and invisible characters."
    if "," in text:
        return "Separate rules by spaces, not by commas."
    if "\\" in text:
        return "Use / instead of \\."
    if "?" in text or "#" in text:
        return "Remove the part from ? or # on; a rule ends with the path."
    return None


def _wrong_protocol(text: str) -> str | None:
    before, found, _ = text.partition("://")
    if found and "/" not in before and before.lower() not in DEFAULT_PORTS:
        return "Use http:// or https://, or no protocol for both."
    if text.startswith("//"):
        return "Remove the // at the start, or write http:// or https://."
    return None


def _wrong_star(rest: str, authority: str, path: str) -> str | None:
    if rest in ("*", "*.", "*/", "*/*"):
        return "Leave the field blank to allow any domain."
    if "*" in path:
        return "Remove the * inside the path; every path that begins with it is already allowed."
    if authority.endswith(":") and rest.endswith("*"):
        return "Write the port as a number; one rule for each port."
    before_star = authority.endswith(".") and not path and rest.endswith("*")
    if before_star or "*" in authority.removeprefix("*."):
        return "Use * only as *. before the domain, such as *.example.com, or at the end of the path."
    return None


def _wrong_authority(authority: str) -> str | None:
    if "@" in authority:
        return "Remove the user name before @."
    if page_address.canonical_ipv6(authority):
        return f"Write the address in brackets: [{authority}]."
    return None


def _split_port(authority: str) -> tuple[str, str, str]:
    """Return (host, ":" or "", port); the colons of an IPv6 address are inside its brackets."""
    bracket = authority.rfind("]") + 1
    rest, colon, port = authority[bracket:].partition(":")
    return authority[:bracket] + rest, colon, port


def _rule_host(text: str) -> str | None:
    """Return a rule's host with A-labels, or None. Source: UTS 46, non-transitional, as browsers do."""
    if text.startswith("["):
        return page_address.canonical_ipv6(text[1:-1]) if text.endswith("]") else None
    try:
        name = text if text.isascii() else _with_a_labels(text)
    except UnicodeError:
        return None
    host = page_address.canonical_host(name)
    return host if host is not None and len(host) <= page_address.NAME_CHARACTERS_MAX else None


def _with_a_labels(text: str) -> str:
    """Return a name with its non-ASCII labels encoded; raise UnicodeError for an invalid IDNA 2008 label."""
    # Label by label: the library would refuse `_`, and A-labels that browsers accept, in the other labels.
    labels = idna.uts46_remap(text, std3_rules=False, transitional=False).split(".")
    return ".".join(
        label if label.isascii() else idna.encode(label, transitional=False).decode("ascii")
        for label in labels
    )


def _rule_path(text: str) -> str | None:
    """Return a rule's path as browsers write it, "" for the whole site, None when it ends in dots."""
    # A rule may end within a segment: read as `..`, that end would widen the rule.
    if page_address.is_dot_segment(text.rpartition("/")[2]):
        return None
    path = page_address.remove_dot_segments(quote(text, safe=_ASCII)) if text else ""
    return "" if path == "/" else path


def _is_public_suffix(host: str) -> bool:
    return bool(_public_suffixes().publicsuffix(host, accept_unknown=False) == host)


@lru_cache(maxsize=1)
def _public_suffixes() -> PublicSuffixList:
    # Private suffixes such as github.io are left out: an owner may mean all sites of such a service.
    return PublicSuffixList(only_icann=True)
