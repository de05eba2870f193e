"""The address of a page: a Referer or Origin parsed as strictly as browsers write it. Pure: no Django here.

Parsed by hand on purpose: general URL parsers repair their input, and disagree with browsers about the
host of what they repaired. Anything that no browser would send is refused. Source: docs/security-checks.md,
Domain rules.
"""

import ipaddress
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import idna

ADDRESS_CHARACTERS_MAX = 4096
NAME_CHARACTERS_MAX = 253
DEFAULT_PORTS = {"http": 80, "https": 443}

_PRINTABLE = frozenset(map(chr, range(0x21, 0x7F)))
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_DIGITS = frozenset("0123456789")
_SINGLE_DOT = frozenset((".", "%2e"))
_DOUBLE_DOT = frozenset(("..", ".%2e", "%2e.", "%2e%2e"))


@dataclass(frozen=True, slots=True)
class PageAddress:
    """A parsed Referer or Origin; the port is the protocol's default when none was written.

    Protocol "" means that none was written; the port is then as written, or None.
    """

    protocol: str
    host: str
    port: int | None
    path: str

    @property
    def origin(self) -> str | None:
        """The origin as a browser writes it, or None when the protocol is unknown."""
        if not self.protocol or self.port is None:
            return None
        port = "" if self.port == DEFAULT_PORTS[self.protocol] else f":{self.port}"
        return f"{self.protocol}://{self.host}{port}"


def parse_referer(text: str) -> PageAddress | None:
    """Return the page a Referer names, or None when no browser would have sent it."""
    # An opaque origin is written "null"; it must never be taken for a host of that name.
    if len(text) > ADDRESS_CHARACTERS_MAX or not _PRINTABLE.issuperset(text) or text.lower() == "null":
        return None
    if "\\" in text or "#" in text:
        return None
    protocol, rest = split_protocol(text)
    authority, path = split_path(rest.partition("?")[0])
    found = parse_authority(authority)
    if found is None:
        return None
    host, port = found
    if port is None and protocol:
        port = DEFAULT_PORTS[protocol]
    return PageAddress(protocol, host, port, remove_dot_segments(path or "/"))


def parse_origin(text: str) -> PageAddress | None:
    """Return the origin an Origin header names, or None for `null`, a list, or anything with a path."""
    page = parse_referer(text)
    if page is None or not page.protocol or "/" in split_protocol(text)[1] or "?" in text:
        return None
    return page


def split_protocol(text: str) -> tuple[str, str]:
    """Return ("http" or "https" or "", the rest)."""
    for protocol in DEFAULT_PORTS:
        start = f"{protocol}://"
        if text[: len(start)].lower() == start:
            return protocol, text[len(start) :]
    return "", text


def split_path(text: str) -> tuple[str, str]:
    """Return (authority, path from its first slash on, or "")."""
    authority, slash, path = text.partition("/")
    return authority, slash + path


def parse_authority(text: str) -> tuple[str, int | None] | None:
    """Return (canonical host, port or None), or None when either is malformed."""
    if text.startswith("["):
        end = text.find("]") + 1
        host, rest = text[:end], text[end:]
    else:
        host, colon, port_text = text.partition(":")
        rest = colon + port_text
    canonical = canonical_host(host)
    if canonical is None:
        return None
    if not rest:
        return canonical, None
    port = parse_port(rest[1:]) if rest.startswith(":") else None
    return None if port is None else (canonical, port)


def parse_port(text: str) -> int | None:
    """Return a port from 1 to 65535, or None."""
    if not 1 <= len(text) <= 5 or not _DIGITS.issuperset(text) or text.startswith("0"):
        return None
    port = int(text)
    return port if port <= 65535 else None


def canonical_host(text: str) -> str | None:
    """Return the host in lower case, without a trailing dot; None when browsers would rewrite it."""
    host = text.lower()
    if host.startswith("["):
        return host if host.endswith("]") and host == canonical_ipv6(host[1:-1]) else None
    name = host.removesuffix(".")
    labels = name.split(".")
    if not all(1 <= len(label) <= 63 and _LABEL.issuperset(label) for label in labels):
        return None
    if _is_number(labels[-1]):
        # Browsers take such a host for an IPv4 address and rewrite octal, hex and short forms.
        return host if is_ipv4(host) else None
    punycoded = [label for label in labels if label.startswith("xn--")]
    # Decoding labels can only become costly in names longer than any real one.
    if punycoded and (len(name) > NAME_CHARACTERS_MAX or not all(map(_is_a_label, punycoded))):
        return None
    return name


def is_ipv4(text: str) -> bool:
    """Whether this is an IPv4 address in four plain decimal numbers."""
    try:
        return str(ipaddress.IPv4Address(text)) == text
    except ValueError:
        return False


def remove_dot_segments(path: str) -> str:
    """Return an absolute path without `.` and `..` segments, `%2e` forms too; nothing else is decoded."""
    if "." not in path and "%2" not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for position, segment in enumerate(segments):
        form = segment.lower()
        if form in _DOUBLE_DOT:
            del kept[-1:]
        elif form not in _SINGLE_DOT:
            kept.append(segment)
            continue
        if position == len(segments) - 1:
            kept.append("")
    return "/" + "/".join(kept)


def is_dot_segment(segment: str) -> bool:
    """Whether a path segment is `.` or `..`, percent-encoded or not."""
    return segment.lower() in _SINGLE_DOT | _DOUBLE_DOT


def canonical_ipv6(text: str) -> str | None:
    """Return `[address]` as browsers write it, or None when the text is not an IPv6 address."""
    if "%" in text:  # A zone id has a meaning on one machine only.
        return None
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped
    if mapped is not None:  # Python's form of these differs between versions.
        high, low = divmod(int(mapped), 0x10000)
        return f"[::ffff:{high:x}:{low:x}]"
    return f"[{address.compressed}]"


def _is_number(label: str) -> bool:
    return _DIGITS.issuperset(label) or (
        label.startswith("0x") and frozenset("0123456789abcdef").issuperset(label[2:])
    )


@lru_cache(maxsize=4096)
def _is_a_label(label: str) -> bool:
    """Whether an `xn--` label is one that UTS 46 produces, so that a browser could have sent it."""
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
        stable = idna.uts46_remap(decoded, std3_rules=False, transitional=False) == decoded
        encoded = decoded.encode("punycode").decode("ascii")
        return (
            stable
            and not decoded.isascii()
            and encoded == label[4:]
            and unicodedata.combining(decoded[0]) == 0
            and idna.check_bidi(decoded)
        )
    except (UnicodeError, ValueError, OverflowError, IndexError):
        return False
