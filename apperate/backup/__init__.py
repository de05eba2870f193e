"""Backups: making and checking one, restoring it, what was revoked since, a schedule, points in time.

    archive.py, manifest.py, sealed_keys.py    the file: its members, what it says of itself, the keys in it
    making.py, restoring.py, loading.py        a backup while serving; all of it back into an empty database
    revocations.py, replay.py                  what was taken away since, kept outside the database
    schedule.py, retention.py, status.py       regular backups, which are kept, whether one is late
    point_in_time.py, recovery.py              the embedded server's log, and the way back to a moment

The management commands, the doctor and the page frame import from here. Services of tokens and people import
`revocations` alone.
"""
