"""Tokens that were deleted longer ago than they can be restored: values, settings and grants go.

The row itself stays when the token used anything: what was used and spent stays on the usage page, under the
nickname, and is what a workspace was billed by.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from tokens.models import CreditWindow, Secret, SigningSecret, Token, TokenRefusal, UsageCounter
from tokens.services.lifecycle import TRASH_DAYS

AT_ONCE_MAX = 500


def purge(*, now: datetime) -> int:
    """Forget at most AT_ONCE_MAX tokens; how many there were."""
    before = now - timedelta(days=TRASH_DAYS)
    used = Exists(UsageCounter.objects.filter(token_id=OuterRef("pk"))) | Exists(
        CreditWindow.objects.filter(token=OuterRef("pk"), used__gt=0)
    )
    past = Token.objects.filter(deleted_at__lt=before)
    due = past.filter(Exists(Secret.objects.filter(token=OuterRef("pk"))) | ~Q(used))
    found = list(due.order_by("deleted_at").values_list("pk", flat=True)[:AT_ONCE_MAX])
    for pk in found:
        with transaction.atomic():
            token = past.select_for_update().filter(pk=pk).first()
            if token is not None:
                _forget(token)
    Token.objects.filter(pk__in=found, deleted_at__lt=before).exclude(used).delete()
    return len(found)


def _forget(token: Token) -> None:
    for related in (token.secrets, token.revisions):
        related.all().delete()
    TokenRefusal.objects.filter(token_id=token.pk).delete()
    SigningSecret.objects.filter(token=token).delete()
