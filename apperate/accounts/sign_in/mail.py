"""Messages of the project itself; allauth sends those about passwords and addresses."""

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from apperate.accounts.models import Invitation


def can_send() -> bool:
    """Whether messages go anywhere; over https they are not printed in place of being sent."""
    return not settings.EMAIL_BACKEND.startswith("apperate.accounts.sign_in.unsent.")


def send_invitation(invitation: Invitation, url: str) -> None:
    """Send the link to the invited address, as text and as HTML. Raises OSError when no server takes it."""
    context = {
        "invitation": invitation,
        "workspace": invitation.workspace,
        "url": url,
        "days": settings.INVITATION_DAYS,
        "public_url": settings.PUBLIC_URL,
    }
    # A title may hold anything a person typed; a header holds one line.
    subject = " ".join(f"[Apperate] Invitation to {invitation.workspace.title}".split())
    message = EmailMultiAlternatives(
        subject, render_to_string("accounts/email/invitation.txt", context), to=[invitation.email]
    )
    message.attach_alternative(render_to_string("accounts/email/invitation.html", context), "text/html")
    message.send()
