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


def invalid_indexes() -> list[str]:
    """Indexes that a broken CREATE INDEX or a full disk left unfinished: they are written and never read."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                WHERE NOT (i.indisvalid AND i.indisready) AND c.relnamespace = 'public'::regnamespace
                ORDER BY 1"""
        )
        return [f"index {name}" for (name,) in cursor.fetchall()]


def late_sequences() -> list[str]:
    """Tables whose next id is one that a row has already, as after rows were copied in without sequences."""
    found = []
    with connection.cursor() as cursor:
        for model in apps.get_models():
            key = model._meta.pk
            if not (model._meta.managed and isinstance(key, models.AutoField | models.BigAutoField)):
                continue
            table, column = model._meta.db_table, str(key.column)
            quoted = connection.ops.quote_name(table), connection.ops.quote_name(column)
            cursor.execute(
                f"""SELECT pg_sequence_last_value(pg_get_serial_sequence(%s, %s)::regclass),
                           (SELECT max({quoted[1]}) FROM {quoted[0]})""",  # noqa: S608  names of models
                [quoted[0], column],
            )
            last, highest = cursor.fetchone()
            if highest is not None and (last or 0) < highest:
                found.append(table)
    return sorted(found)


def stamped_ahead() -> list[str]:
    """Tables with rows stamped by transactions of another server, which are yet to come on this one."""
    found = []
    with connection.cursor() as cursor:
        for table in STAMPED:
            cursor.execute(
                f"""SELECT EXISTS (SELECT 1 FROM {table} WHERE changed_xid > greatest(
                        pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                        pg_current_xact_id_if_assigned()::text::bigint))"""  # noqa: S608
            )
            if cursor.fetchone()[0]:
                found.append(table)
    return found
