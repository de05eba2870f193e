#!/usr/bin/env python
"""Run a management command."""

import os
import sys

# These change tables, so they connect as the role that owns them.
OWNER_COMMANDS = {"migrate", "sqlmigrate", "flush", "dbshell", "grants", "up", "workspaces"}
OWNER_COMMANDS |= {"backup", "restore", "archivelog"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apperate.settings")
    if len(sys.argv) > 1 and sys.argv[1] in OWNER_COMMANDS:
        os.environ.setdefault("APPERATE_DATABASE_ROLE", "owner")
    if sys.argv[1:2] == ["up"]:
        os.environ.setdefault("PORT", "8000")  # Said, so that no note of an earlier run counts instead.
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:  # A wrong value is one clear line, not a traceback.
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
