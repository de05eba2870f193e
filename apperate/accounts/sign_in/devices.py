"""A device on which a person has signed in keeps its own count of failed tries.

Tries are limited by account, so that a password cannot be guessed from many addresses. That alone would let
anybody who knows a person's address keep that person out, by failing again and again. A signed cookie tells
the devices on which the right password was given before; what fails elsewhere does not count there. It opens
nothing: the password, and the second factor, are asked for all the same. Source: OWASP, Device Cookies.
"""

import secrets
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare, salted_hmac

SALT = "apperate.accounts.sign_in.devices"
SECONDS_MAX = 365 * 86_400


def device_of(request: HttpRequest, login: str) -> str:
    """The id of the device if this login was used on it before, else an empty text."""
    try:
        known: dict[str, Any] = signing.loads(
            request.COOKIES.get(cookie_name(), ""), salt=SALT, max_age=SECONDS_MAX
        )
    except signing.BadSignature:
        return ""
    return str(known["device"]) if constant_time_compare(known["login"], digest(login)) else ""


def remember(request: HttpRequest, response: HttpResponse, login: str) -> None:
    """Let the device be known by its next sign-in; only the last login of each is."""
    device = device_of(request, login) or secrets.token_hex(16)
    response.set_cookie(
        cookie_name(),
        signing.dumps({"login": digest(login), "device": device}, salt=SALT),
        max_age=SECONDS_MAX,
        secure=settings.SERVES_HTTPS,
        httponly=True,
        samesite="Lax",
    )


def cookie_name() -> str:
    return "__Host-device" if settings.SERVES_HTTPS else "device"


def digest(login: str) -> str:
    """So that the cookie does not say who it was."""
    return salted_hmac(SALT, login.lower()).hexdigest()
