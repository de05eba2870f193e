"""Mail without a mail server, where messages must not be printed: settings.EMAIL_BACKEND over https."""

import logging
from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

logger = logging.getLogger("apperate.mail")


class EmailBackend(BaseEmailBackend):
    """Sends nothing and says so. A link to a session or a password has no place in a log, nor an address."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        logger.warning("%d messages were not sent, because EMAIL_URL is not set", len(email_messages))
        return 0
