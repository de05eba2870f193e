"""How long a session lasts: until two weeks without use, and at most a month after the sign-in.

Django counts a session's age from when it was last written, so it is written once an hour while in use.
Requests that an open page makes by itself do not count as use. Source: docs/security-checks.md, S47.
"""

from collections.abc import Callable
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

LONGEST_SECONDS = 30 * 86_400
WRITTEN_SECONDS = 3_600
SIGNED_IN_AT, USED_AT = "signed_in_at", "used_at"


def connect() -> None:
    """Connect the signal; called once, when the app is ready."""
    user_logged_in.connect(signed_in)


def signed_in(request: HttpRequest, **_: Any) -> None:
    request.session[SIGNED_IN_AT] = request.session[USED_AT] = timezone.now().timestamp()


class SessionLimits:
    """Ends a session that began too long ago, and extends one that is in use."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponse:
        if SESSION_KEY in request.session:
            now = timezone.now().timestamp()
            # A session without a start time may be too old.
            if request.session.get(SIGNED_IN_AT, 0) + LONGEST_SECONDS <= now:
                request.session.flush()
                request.user = AnonymousUser()
            elif not request.htmx and request.session[USED_AT] + WRITTEN_SECONDS <= now:
                request.session[USED_AT] = now
        return self.get_response(request)
