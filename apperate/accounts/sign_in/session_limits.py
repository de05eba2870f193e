"""How long a session lasts: two weeks without use, and a month after the sign-in in any case.

Django ends a session so long after it was last written, so it is written once an hour while it is used. What
an open page asks for by itself is no use. Source: security.md, S47.
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
    """Listen; called once, when the app is ready."""
    user_logged_in.connect(signed_in)


def signed_in(request: HttpRequest, **_: Any) -> None:
    request.session[SIGNED_IN_AT] = request.session[USED_AT] = timezone.now().timestamp()


class SessionLimits:
    """Ends a session that began too long ago, and keeps one that is used."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponse:
        if SESSION_KEY in request.session:
            now = timezone.now().timestamp()
            # A session without the mark is not known to be young enough.
            if request.session.get(SIGNED_IN_AT, 0) + LONGEST_SECONDS <= now:
                request.session.flush()
                request.user = AnonymousUser()
            elif not request.htmx and request.session[USED_AT] + WRITTEN_SECONDS <= now:
                request.session[USED_AT] = now
        return self.get_response(request)
