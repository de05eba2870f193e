"""Sessions that ended: the browser keeps no cookie of them, and nothing else would remove their rows."""

from datetime import datetime

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session

AT_ONCE_MAX = 10_000


def purge(*, now: datetime) -> int:
    """Remove sessions that have expired, at most AT_ONCE_MAX, and what was known of each; how many."""
    expired = Session.objects.filter(expire_date__lt=now).order_by("expire_date").values_list("pk", flat=True)
    count, _ = Session.objects.filter(pk__in=list(expired[:AT_ONCE_MAX])).delete()
    known = UserSession.objects.exclude(session_key__in=Session.objects.values("session_key"))
    UserSession.objects.filter(pk__in=list(known.values_list("pk", flat=True)[:AT_ONCE_MAX])).delete()
    return count
