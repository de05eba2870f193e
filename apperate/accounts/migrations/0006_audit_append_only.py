"""The audit log is only added to: no role changes a row, and none goes before its workspace's plan lets it.

The role that serves requests loses its rights on the rows; the trigger holds where one role does everything.
"""

from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# Of rows that belong to no workspace, the longest time. plans.py says the same; a test compares them.
DAYS = """
CREATE FUNCTION audit_days(plan text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE plan WHEN 'launch' THEN 1 WHEN 'grow' THEN 3 WHEN 'scale' THEN 30 ELSE 365 END
$$;
"""
REFUSE = """
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < now() - make_interval(
            days => audit_days((SELECT plan FROM accounts_workspace WHERE id = OLD.workspace_id))
        ) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is only added to' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_rows_stay BEFORE UPDATE OR DELETE ON accounts_auditevent
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_table_stays BEFORE TRUNCATE ON accounts_auditevent
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
"""
NO_REFUSE = """
DROP TRIGGER audit_rows_stay ON accounts_auditevent;
DROP TRIGGER audit_table_stays ON accounts_auditevent;
DROP FUNCTION refuse_audit_change();
"""
# It runs with its owner's rights, and takes nothing from its caller but how many rows at most. At each
# workspace the rows are the oldest of the index accounts_audit_by_time.
PURGE = """
CREATE FUNCTION purge_audit_log(rows_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    removed integer;
BEGIN
    WITH due AS (
        SELECT old.id FROM accounts_workspace w CROSS JOIN LATERAL (
            SELECT e.id FROM accounts_auditevent e
             WHERE e.workspace_id = w.id AND e.at < now() - make_interval(days => audit_days(w.plan))
             ORDER BY e.at LIMIT rows_max
        ) old
        UNION ALL
        SELECT e.id FROM accounts_auditevent e
         WHERE e.workspace_id IS NULL AND e.at < now() - make_interval(days => audit_days(NULL))
        LIMIT rows_max
    )
    DELETE FROM accounts_auditevent WHERE id IN (SELECT id FROM due);
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;
"""
ROLES = """
SELECT DISTINCT quote_ident(pg_get_userbyid(a.grantee))
  FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
 WHERE c.oid = %s::regclass AND a.grantee NOT IN (0, c.relowner)
"""


def take_rights(apps: Any, schema_editor: Any) -> None:
    """Let every role but the owner of the table only read and add."""
    change_rights(schema_editor, "REVOKE UPDATE, DELETE, TRUNCATE ON {} FROM", "accounts_auditevent")


def give_rights(apps: Any, schema_editor: Any) -> None:
    change_rights(schema_editor, "GRANT UPDATE, DELETE ON {} TO", "accounts_auditevent")


def change_rights(schema_editor: Any, statement: str, table: str) -> None:
    """Run the statement for every role with rights on the table but its owner."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(ROLES, [table])
        for (role,) in cursor.fetchall():
            cursor.execute(f"{statement.format(table)} {role}")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_kept_answers")]

    operations = [
        # A person who goes leaves the rows as they are: `actor` says who it was.
        migrations.AlterField(
            model_name="auditevent",
            name="user",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.RunSQL(DAYS, "DROP FUNCTION audit_days(text)"),
        migrations.RunSQL(REFUSE, NO_REFUSE),
        migrations.RunSQL(PURGE, "DROP FUNCTION purge_audit_log(integer)"),
        migrations.RunPython(take_rights, give_rights),
    ]
