"""The client address, for audit rows and sign-in limits."""

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The client's address, looking past as many proxies as APPERATE_TRUSTED_PROXIES says.

    A client can write anything into X-Forwarded-For; only entries appended by trusted proxies count.
    """
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    if settings.TRUSTED_PROXIES and len(hops) >= settings.TRUSTED_PROXIES:
        return hops[-settings.TRUSTED_PROXIES][:64]
    return request.META.get("REMOTE_ADDR", "")[:64]
