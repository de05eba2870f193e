"""CreditAlert: that a token reached a part of its credit limit in a month, and that it was told."""

import uuid

from django.db import models
from django.db.models import Q

PERCENTS = (50, 80, 100)


class CreditAlert(models.Model):
    """One alert. The row is unique in its month, so no number of workers and restarts makes two of it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    token = models.ForeignKey("tokens.Token", on_delete=models.CASCADE, related_name="credit_alerts")
    month = models.DateField()
    percent = models.PositiveSmallIntegerField()
    used = models.BigIntegerField()
    credit_limit = models.BigIntegerField()
    reached_at = models.DateTimeField()
    mailed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["token", "month", "percent"], name="tokens_creditalert_once"),
            models.CheckConstraint(
                condition=Q(percent__in=PERCENTS), name="tokens_creditalert_percent_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.token} {self.month:%Y-%m}: {self.percent} %"
