"""The table of the cache, which holds the counters of sign-in limits for all workers."""

from typing import Any

from django.core.management import call_command
from django.db import migrations


def make_table(apps: Any, schema_editor: Any) -> None:
    call_command("createcachetable", database=schema_editor.connection.alias, verbosity=0)


def drop_table(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute("DROP TABLE IF EXISTS apperate_cache")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_stamp_changes")]

    operations = [migrations.RunPython(make_table, drop_table)]
