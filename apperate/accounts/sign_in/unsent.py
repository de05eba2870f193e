"""The e-mail backend over https without a mail server, where e-mails must not be printed either."""

import logging
from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

logger = logging.getLogger("apperate.mail")


class EmailBackend(BaseEmailBackend):
    """Sends nothing and logs that. Sign-in links, password links and addresses do not belong in a log."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        logger.warning("%d messages were not sent, because EMAIL_URL is not set", len(email_messages))
        return 0
