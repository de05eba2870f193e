"""Token rows carry the transaction that last wrote them, so that caches can follow."""

from importlib import import_module

from django.db import migrations

stamp = import_module("apperate.accounts.migrations.0002_stamp_changes").stamp


class Migration(migrations.Migration):
    dependencies = [("tokens", "0001_initial"), ("accounts", "0002_stamp_changes")]

    operations = [stamp("tokens_token")]
