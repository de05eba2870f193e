"""What migrations made besides tables, and what somebody may have dropped since: indexes, rules, triggers.

missing_parts() -> list of str      such as "index tokens_usage_by_minute of tokens_usagecounter"
"""

from django.apps import apps
from django.db import connection, models

# Without its trigger a table's changes are never noticed: a disabled token would go on working.
STAMPED = ("accounts_workspace", "datasets_dataset", "tokens_token")
APPS = ("accounts", "tokens", "datasets")


def missing_parts() -> list[str]:
    found = [*_missing_triggers()]
    with connection.cursor() as cursor:
        for model in apps.get_models():
            if model._meta.app_label in APPS and model._meta.managed and not model._meta.proxy:
                table = model._meta.db_table
                there = set(connection.introspection.get_constraints(cursor, table))
                found += [f"{what} {name} of {table}" for what, name in _declared(model) if name not in there]
    return sorted(found)


def _declared(model: type[models.Model]) -> list[tuple[str, str]]:
    indexes = [("index", index.name) for index in model._meta.indexes]
    return indexes + [("constraint", constraint.name) for constraint in model._meta.constraints]


def _missing_triggers() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT t.name FROM unnest(%s::text[]) AS t(name)
                WHERE NOT EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = t.name::regclass
                                     AND g.tgname = 'stamp_change' AND g.tgenabled <> 'D')""",
            [list(STAMPED)],
        )
        return [f"trigger stamp_change of {name}" for (name,) in cursor.fetchall()]
