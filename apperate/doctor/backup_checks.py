"""The doctor's checks of backups, and of the file that an old backup needs beside it."""

import os
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from apperate.accounts.models import Workspace
from apperate.backup import revocations as noted
from apperate.backup import status
from apperate.demo.content import WORKSPACE as DEMO
from apperate.doctor.findings import FAIL, OK, WARN, Finding


def backups() -> Finding:
    """Is the last good one young enough, and was there ever one?"""
    state, subject, now = status.read(), "Backups", datetime.now(UTC)
    why = f" The last try failed: {state.failed_why}" if state.has_failed_since else ""
    if late := status.lateness(state, now=now):
        advice = "`manage.py up` makes them: its log says why not. `manage.py backup` makes one now."
        return Finding(FAIL, subject, f"{late}{why}", advice)
    if why:
        return Finding(WARN, subject, why.strip(), "It is tried again; `manage.py backup` makes one now.")
    if not state.good_at:
        is_demo = not Workspace.objects.exclude(name=DEMO).filter(is_system=False).exists()
        if is_demo or settings.BACKUP_TO:
            return Finding(OK, subject, "None yet.")
        advice = "Set APPERATE_BACKUP_TO to a folder on another disk, or run `manage.py backup` regularly."
        return Finding(WARN, subject, "None was ever made here.", advice)
    made = f"{state.good_at[:16].replace('T', ' ')} UTC, {state.good_bytes / 1e6:,.1f} MB, {state.good_file}"
    return Finding(OK, subject, f"The last good one: {made}")


def revocations() -> Finding:
    """Can what is taken away be noted outside the database?"""
    path = noted.own_file()
    place = path if path.exists() else path.parent
    if (path.exists() and not path.is_file()) or (place.exists() and not os.access(place, os.W_OK)):
        detail = f"{path} cannot be written, so a restored backup would bring back what was revoked since."
        return Finding(FAIL, "Revocations", detail, f"Give {place} to the account that runs Apperate.")
    copy = noted.copy_in(Path(settings.BACKUP_TO)) if settings.BACKUP_TO else None
    if copy and copy.parent.exists() and not os.access(copy if copy.exists() else copy.parent, os.W_OK):
        detail = f"{copy} cannot be written; the data directory has the only copy."
        return Finding(WARN, "Revocations", detail, f"Make {copy.parent} writable for this account.")
    return Finding(OK, "Revocations", f"They are noted in {path}")
