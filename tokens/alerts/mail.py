"""send(): notifies a workspace's managers that a token has used 50, 80 or 100 % of its limit."""

from datetime import UTC, datetime

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from apperate.accounts.decorators import managers
from apperate.database.clock import next_month
from tokens.alert_models import CreditAlert


def send(alert: CreditAlert) -> None:
    """Send it as text and HTML to the primary and the admins. Raises OSError when no server accepts it."""
    token = alert.token
    people = [person.email for person in managers(token.workspace) if person.is_active]
    if not people:
        return
    name = token.name
    context = {
        "alert": alert,
        "name": name,
        "workspace": token.workspace,
        "resets_at": resets_at(alert),
        "is_used_up": alert.percent == 100,
        "url": settings.PUBLIC_URL + reverse("tokens:edit", args=[token.public_id]),
        "public_url": settings.PUBLIC_URL,
    }
    # A nickname may hold any characters, but a header must be one line.
    subject = " ".join(f"[Apperate] {name} has used {alert.percent} % of its credits".split())
    message = EmailMultiAlternatives(
        subject, render_to_string("tokens/email/credit_alert.txt", context), to=people
    )
    message.attach_alternative(render_to_string("tokens/email/credit_alert.html", context), "text/html")
    message.send()


def resets_at(alert: CreditAlert) -> datetime:
    """When the token's credits reset."""
    return next_month(datetime.combine(alert.month, datetime.min.time(), tzinfo=UTC))
