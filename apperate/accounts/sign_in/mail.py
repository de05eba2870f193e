"""Apperate's own e-mails; allauth sends those about passwords and addresses."""

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from apperate.accounts.models import Invitation


def can_send() -> bool:
    """Whether e-mail goes anywhere; over https it is not printed as a substitute for sending."""
    return not settings.EMAIL_BACKEND.startswith("apperate.accounts.sign_in.unsent.")


def send_invitation(invitation: Invitation, url: str) -> None:
    """Send the link to the invited address, as text and HTML. Raises OSError when no server accepts it."""
    context = {
        "invitation": invitation,
        "workspace": invitation.workspace,
        "url": url,
        "days": settings.INVITATION_DAYS,
        "public_url": settings.PUBLIC_URL,
    }
    # A title may hold any characters, but a header must be one line.
    subject = " ".join(f"[Apperate] Invitation to {invitation.workspace.title}".split())
    message = EmailMultiAlternatives(
        subject, render_to_string("accounts/email/invitation.txt", context), to=[invitation.email]
    )
    message.attach_alternative(render_to_string("accounts/email/invitation.html", context), "text/html")
    message.send()
