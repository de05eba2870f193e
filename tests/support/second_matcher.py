"""A second matcher for Allowed Domain(s), to be compared with the product's.

It is written from the rules alone (security.md, "Domain rules") and shares no code with tokens/: hosts are
read by a WHATWG URL parser (ada), which is what browsers do with them; what is left is text comparison.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import ada_url
import idna

DEFAULT_PORTS = {"http": 80, "https": 443}
REFERER_MAX = 4096
DOT_SEGMENT = re.compile(r"(?:\.|%2e){1,2}", re.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """Where a request says it comes from. No protocol: the header did not name one."""

    protocol: str
    host: str
    port: int | None
    path: str

    @property
    def origin(self) -> tuple[str, str, int | None]:
        return self.protocol, self.host, self.port or DEFAULT_PORTS.get(self.protocol)


@dataclass(frozen=True)
class Rule:
    protocol: str
    any_subdomain: bool
    host: str
    port: int | None
    path: str


def is_valid(field: str) -> bool:
    return all(read_rule(piece) is not None for piece in field.split())


def allows(field: str, referer: str | None, origin: str | None) -> bool:
    pieces = field.split()
    if not pieces:
        return True
    rules = [rule for rule in map(read_rule, pieces) if rule is not None]
    if referer is None:
        alone = read_origin(origin) if origin is not None else None
        return alone is not None and any(not rule.path and meets(alone, rule) for rule in rules)
    page = read_referer(referer)
    if page is None:
        return False
    if origin is not None:
        stated = read_origin(origin)
        if stated is None or stated.origin != page.origin:
            return False
    return any(meets(page, rule) for rule in rules)


def meets(page: Page, rule: Rule) -> bool:
    if rule.protocol and page.protocol != rule.protocol:
        return False
    if rule.any_subdomain:
        # Its labels are known not to be empty, so one more character before the dot is a label.
        if not (page.host.endswith("." + rule.host) and len(page.host) > len(rule.host) + 1):
            return False
    elif page.host != rule.host:
        return False
    default = DEFAULT_PORTS.get(page.protocol)
    if (page.port or default) != (rule.port or default):
        return False
    return page.path.startswith(rule.path)


# --- headers ---


def read_referer(text: str) -> Page | None:
    if text in ("", "null") or len(text) > REFERER_MAX or not all("!" <= letter <= "~" for letter in text):
        return None
    if "\\" in text or "#" in text:
        return None
    protocol, rest = split_protocol(text)
    if protocol not in ("", "http", "https"):
        return None
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority = rest[:end]
    read = read_authority(authority)
    if read is None:
        return None
    try:
        path = ada_url.URL(f"{protocol or 'https'}://{rest}").pathname
    except ValueError:
        return None
    return Page(protocol, *read, path)


def read_origin(text: str) -> Page | None:
    """`null` and everything else that is not protocol://host[:port] is None."""
    page = read_referer(text)
    if page is None or not page.protocol or re.search(r"[/?]", text.partition("://")[2]):
        return None
    return page


def split_protocol(text: str) -> tuple[str, str]:
    found = re.match(r"([^/?]*?)://", text)
    return (found[1].lower() or "none", text[found.end() :]) if found else ("", text)


def read_authority(authority: str) -> tuple[str, int | None] | None:
    """The host as a browser would send it, and the port as written."""
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]@]*)(?::([1-9][0-9]{0,4}))?", authority)
    if not found or (found[2] and int(found[2]) > 65535):
        return None
    host = canonical_host(found[1])
    if host is None:
        return None
    return host, int(found[2]) if found[2] else None


def canonical_host(text: str) -> str | None:
    """The host, unless a browser would have written it in another way."""
    lowered = text.lower()
    try:
        read = ada_url.URL(f"https://{lowered}/").hostname
    except ValueError:
        return None
    if not lowered or read != lowered:
        return None
    if lowered.startswith("["):
        return lowered
    name = lowered.removesuffix(".")
    if not all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in name.split(".")):
        return None
    if not all(is_a_label(label) for label in name.split(".") if label.startswith("xn--")):
        return None
    return name


def is_a_label(label: str) -> bool:
    """Whether the label stands for a name: ada reads any xn-- label that is ASCII already as it is."""
    try:
        decoded = label[4:].encode().decode("punycode")
    except (UnicodeError, ValueError):
        return False
    try:
        again = ada_url.URL(f"https://{decoded}.test/").hostname
    except ValueError:
        return False
    return again == f"{label}.test" and not decoded.isascii()


# --- rules ---


def read_rule(text: str) -> Rule | None:
    """The rule, or None where it is refused on save, and matches nothing where it is stored anyway."""
    if any(sign in text for sign in "\\,?#") or not text.isprintable():
        return None
    protocol, rest = split_protocol(text)
    if protocol not in ("", "http", "https"):
        return None
    if re.search(r"^\*$|\.\*$", rest.partition("/")[0]):  # `example.*` is no name with a dot at its end
        return None
    authority, slash, path = rest.removesuffix("*").partition("/")
    any_subdomain = authority.startswith("*.")
    authority = authority.removeprefix("*.")
    if "*" in authority or "*" in path:
        return None
    if DOT_SEGMENT.fullmatch(path.rpartition("/")[2]):  # it may go on as `/..x`: the prefix isn't known
        return None
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]@]*)(?::([1-9][0-9]{0,4}))?", authority)
    if not found or (found[2] and int(found[2]) > 65535):
        return None
    host = rule_host(found[1])
    if host is None:
        return None
    path = without_dot_segments(slash + path)
    if is_address(host):
        if any_subdomain or re.fullmatch(r"/[0-9]+", path):
            return None
    elif any_subdomain and is_public_suffix(host):
        return None
    return Rule(protocol, any_subdomain, host, int(found[2]) if found[2] else None, path)


def without_dot_segments(path: str) -> str:
    """The path as browsers write it; `/` is every path, as nothing is."""
    written = ada_url.URL(f"https://x{path}").pathname
    return "" if written == "/" else written


def rule_host(text: str) -> str | None:
    if not text or "%" in text:
        return None
    if text.startswith("["):
        try:
            return ada_url.URL(f"https://{text}/").hostname
        except ValueError:
            return None
    if not is_idna_2008(text):
        return None
    try:
        as_read = ada_url.URL(f"https://{text}/").hostname
    except ValueError:
        return None
    if is_address(as_read) and as_read != text:  # 0x7f.1, 2130706433, 127.0.0.1. and the like
        return None
    return canonical_host(as_read)


def is_idna_2008(name: str) -> bool:
    """What the rules name for rules (PyPI idna) is narrower than what browsers read: no emoji, for one."""
    try:
        for label in idna.uts46_remap(name, std3_rules=False, transitional=False).split("."):
            if not label.isascii():
                idna.alabel(label)
    except idna.IDNAError:
        return False
    return True


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


@cache
def icann_suffixes() -> frozenset[str]:
    """The rules of the public suffix list's ICANN part, as A-labels."""
    text = (files("publicsuffixlist") / "public_suffix_list.dat").read_text(encoding="utf-8")
    part = text.partition("===BEGIN ICANN DOMAINS===")[2].partition("===END ICANN DOMAINS===")[0]
    rules = [line.split()[0] for line in part.splitlines() if line and not line.startswith("//")]
    return frozenset(as_a_labels(rule) for rule in rules)


def as_a_labels(rule: str) -> str:
    sign, name = re.fullmatch(r"(\*\.|!|)(.*)", rule).groups()  # type: ignore[union-attr]
    return sign + (name if name.isascii() else ada_url.URL(f"https://{name}/").hostname)


def is_public_suffix(host: str) -> bool:
    """Whether anyone may own a name below it: also below every name that `*.` of the list stands before."""
    rules = icann_suffixes()
    parent = host.partition(".")[2]
    if f"!{host}" in rules:
        return False
    return host in rules or f"*.{host}" in rules or (bool(parent) and f"*.{parent}" in rules)
