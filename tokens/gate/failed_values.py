"""FailedValues: how many invalid token values one address may send before the answer is 429.

    failed_values.count(address, at=…)   → None, or the seconds until the next one gets an answer

One bucket per address, which only failures draw from: valid values pass whatever else their address
sends, so a neighbour can lock nobody out. Each worker has its share of the limit per address. In memory
only, the least recently seen dropped first. Source: docs/security-checks.md, S29 and S31.
"""

import ipaddress
from collections import OrderedDict
from math import ceil

from django.conf import settings

from apperate.kernel.refusals import Refusal

ADDRESSES_MAX = 10_000
NETWORK_BITS = 64  # the smallest range an IPv6 customer gets


class FailedValues:
    """The buckets of this process, used only from its event loop."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level, and as of when

    def count(self, address: str, *, at: float) -> int | None:
        """Count one failure at a monotonic time. None within the limit; beyond it nothing is taken."""
        burst = max(1.0, settings.FAILED_TOKENS_PER_MINUTE / settings.WORKERS)
        per_second = settings.FAILED_TOKENS_PER_MINUTE / settings.WORKERS / 60
        place = network_of(address)
        left, since = self._buckets.get(place, (burst, at))
        left = min(burst, left + per_second * max(0.0, at - since))
        passes = left >= 1
        self._buckets[place] = (left - 1 if passes else left, at)
        self._buckets.move_to_end(place)
        while len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)
        return None if passes else max(1, ceil((1 - left) / per_second))

    def clear(self) -> None:
        """Forget everything, as at the start of the process."""
        self._buckets.clear()


def network_of(address: str) -> str:
    """Whose failures count together: an IPv4 address, an IPv6 address's /64; else the text itself.

    Some proxies write the port too, and some write IPv4 as IPv6.
    """
    text = address.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, NETWORK_BITS), strict=False))


def too_many_failures(wait_seconds: int) -> Refusal:
    """The answer to an invalid value from an address that sent too many of them."""
    return Refusal(
        "rate-limited",
        "No token has this value, and too many such values came from this address.",
        check="value",
        received=f"more than {settings.FAILED_TOKENS_PER_MINUTE:,} of them within a minute",
        needed="the value of a token, which is answered at once",
        retry_after_seconds=wait_seconds,
    )


failed_values = FailedValues()
