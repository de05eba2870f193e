"""allauth's account rules here: no open sign-up, links with the configured host, audited sign-ins."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from apperate.accounts.addresses import client_address
from apperate.accounts.audit import person_events, trail
from apperate.accounts.models import User
from apperate.accounts.sign_in import devices
from apperate.database.clock import database_now


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Closed: people are invited, and accepting the invitation makes their account."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        try:
            return str(ip_address(client_address(request)))
        except ValueError:  # A socket without addresses, or a proxy with unusual client names.
            return "0.0.0.0"  # noqa: S104  A name for "unknown", nothing listens.

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("home")

    # --- links: a request's Host is whatever the client says, so it never gets into a message --------

    def get_reset_password_from_key_url(self, key: str) -> str:
        # The key is "<user>-<token>", as in the route's pattern.
        uid, _, token = key.partition("-")
        return public_address("account_reset_password_from_key", uidb36=uid, key=token)

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        return public_address("account_confirm_email", emailconfirmation.key)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        super().send_mail(template_prefix, email, {**context, "public_url": settings.PUBLIC_URL})

    # --- audit ---------------------------------------------------------------------------------------

    def post_login(self, request: HttpRequest, user: Any, **about: Any) -> HttpResponse:
        self.record("sign_in.done", request, user)
        response: HttpResponse = super().post_login(request, user, **about)
        devices.remember(request, response, user.email)
        return response

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """What failed tries are counted by: the account, or the account on a device that knows it."""
        key: str = super()._get_login_attempts_cache_key(request, **credentials)
        device = devices.device_of(request, str(credentials.get("email", "")))
        return f"{key}:{device}" if device else key

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        email = str(credentials.get("email", ""))
        trail.record_person(
            "sign_in.failed", of=email, by=None, now=database_now(), address=client_address(request)
        )

    @transaction.atomic
    def set_password(self, user: Any, password: str) -> None:
        super().set_password(user, password)
        self.record("password.changed", self.request, user)

    def record(self, action: str, request: HttpRequest, user: User) -> None:
        trail.record_person(action, of=user, by=user, now=database_now(), address=client_address(request))


class SessionAdapter(DefaultUserSessionsAdapter):
    @transaction.atomic
    def end_sessions(self, sessions: Iterable[Any]) -> None:
        """End them and record in the audit log how many; nothing when there are none."""
        ended = list(sessions)
        super().end_sessions(ended)
        if ended:
            person_events.record("sessions.ended", self.request.user, after={"sessions": len(ended)})


def public_address(url_name: str, *args: str, **kwargs: str) -> str:
    """The absolute URL of a page, on the configured host."""
    return settings.PUBLIC_URL + reverse(url_name, args=args, kwargs=kwargs)
