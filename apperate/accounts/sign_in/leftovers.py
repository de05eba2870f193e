"""What signing in leaves behind: limits that have expired, invitations that nobody can accept any more."""

from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.db.models import Q

from apperate.accounts.models import Invitation

INVITATION_DAYS = 30
ADMIN_LOG_DAYS = 365


def purge_limits(*, now: datetime) -> int:
    """Rows of the cache that have expired; Django removes them only when it is full."""
    table = connection.ops.quote_name(str(settings.CACHES["default"]["LOCATION"]))
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE expires < %s", [now])  # noqa: S608  a name of the settings
        return int(cursor.rowcount)


def purge_invitations(*, now: datetime) -> int:
    """Invitations that ended long ago, however they did; the audit log says that there were any."""
    before = now - timedelta(days=INVITATION_DAYS)
    ended = Q(expires_at__lt=before) | Q(accepted_at__lt=before) | Q(withdrawn_at__lt=before)
    return Invitation.objects.filter(ended).delete()[0]


def purge_admin_log(*, now: datetime) -> int:
    """What operators did in their admin a year ago."""
    return LogEntry.objects.filter(action_time__lt=now - timedelta(days=ADMIN_LOG_DAYS)).delete()[0]
