"""Where a webhook may go: the parts of its URL, and the addresses it may connect to. Pure.

    target_of(url) -> Target | str       the parts, or a sentence saying what is wrong
    may_be_called(address, allowed)      whether a resolved address may be connected to

Only addresses of the public internet are allowed, so that nobody reaches an internal network through this
server (SSRF). IPv6 is refused outside global unicast; special-purpose networks are refused by list.
Source: docs/security-checks.md, S43.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
URL_CHARACTERS_MAX = 1_000
PORTS = {"http": 80, "https": 443}
HOST_FORM = re.compile(r"[A-Za-z0-9._-]{1,253}")

# Source: the IANA registries of special-purpose addresses, and the metadata address of one cloud.
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
            "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "168.63.129.16/32",
            # Within the global unicast addresses: protocol assignments with Teredo, documentation, 6to4.
            "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
        ),
    )
)  # fmt: skip
# Outside it: loopback, link-local, unique local, multicast, and IPv4 inside IPv6 (mapped, NAT64).
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL's parts. `authority` is the Host header, `path` includes the query."""

    is_https: bool
    host: str
    port: int
    authority: str
    path: str


def target_of(url: str) -> Target | str:
    """The parts of an http or https URL, or what is wrong with it."""
    if not 1 <= len(url) <= URL_CHARACTERS_MAX:
        return f"Give an address of at most {URL_CHARACTERS_MAX:,} characters."
    if not all("!" <= character <= "~" for character in url) or "\\" in url:
        return "Write the address in ASCII without spaces and backslashes; other characters as %XX."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "The host or the port of the address is not valid."
    if parts.scheme not in PORTS:
        return "The address must begin with https:// or http://."
    if "@" in parts.netloc:
        return "Leave name and password out of the address; the signature says who calls."
    if parts.fragment:
        return "Leave out what follows #; it is never sent."
    literal = parts.netloc.startswith("[")
    if not (is_ipv6(host) if literal else HOST_FORM.fullmatch(host)) or port == 0:
        return "The host or the port of the address is not valid."
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", host, port or PORTS[parts.scheme], parts.netloc, path)


def is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False


def may_be_called(address: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether a resolved address is public, or in a network the operator allows."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(ip in network for network in allowed):
        return True
    if ip.version == 6 and ip not in GLOBAL_UNICAST:
        return False
    return not any(ip in network for network in NOT_PUBLIC)
