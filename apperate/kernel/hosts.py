"""Hosts, as written in addresses. Pure."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether a name or an address, without brackets and port, means this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
