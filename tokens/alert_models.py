"""CreditAlert: a token used 50, 80 or 100 % of its limit, and its owners were notified. Webhook: to where."""

import uuid

from django.db import models
from django.db.models import Q

from apperate.accounts.models import Workspace
from tokens.rules.webhook_target import URL_CHARACTERS_MAX

PERCENTS = (50, 80, 100)
FAULT_MAX = 200


class CreditAlert(models.Model):
    """One alert. Unique per token, month and percentage, so workers and restarts cannot duplicate it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    token = models.ForeignKey("tokens.Token", on_delete=models.CASCADE, related_name="credit_alerts")
    month = models.DateField()
    percent = models.PositiveSmallIntegerField()
    used = models.BigIntegerField()
    credit_limit = models.BigIntegerField()
    reached_at = models.DateTimeField()
    mailed_at = models.DateTimeField(null=True)
    posted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["token", "month", "percent"], name="tokens_creditalert_once"),
            models.CheckConstraint(
                condition=Q(percent__in=PERCENTS), name="tokens_creditalert_percent_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.token} {self.month:%Y-%m}: {self.percent} %"


class Webhook(models.Model):
    """The URL that a workspace's alerts are posted to, and the encrypted secret that signs them."""

    workspace = models.OneToOneField(Workspace, on_delete=models.CASCADE, related_name="webhook")
    url = models.CharField(max_length=URL_CHARACTERS_MAX)
    ciphertext = models.BinaryField()
    created_at = models.DateTimeField()
    tried_at = models.DateTimeField(null=True)  # the last message to this address
    # Why that message failed.
    fault = models.CharField(max_length=FAULT_MAX, blank=True, default="", db_default="")

    def __str__(self) -> str:
        return f"webhook of {self.workspace}"
