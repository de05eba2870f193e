"""Each audit event is sealed with the one before it: what is changed or removed afterwards no longer fits.

A trigger seals at the end of the transaction, so that writers of a workspace wait for each other only
while they commit. Source: docs/security-checks.md, S54; docs/decisions/0011-audit-chain.md.
"""

from importlib import import_module
from typing import Any

from django.db import migrations, models

append_only = import_module("apperate.accounts.migrations.0006_audit_append_only")

# The event as it is digested: audit_chain.py writes the same text, and reads it again.
TEXT = """
CREATE FUNCTION audit_event_text(e accounts_auditevent, place bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT json_build_array(
        place, e.workspace_id, (extract(epoch FROM e.at) * 1000000)::bigint, e.user_id, e.actor, e.address,
        e.action, e.target, e.before::text, e.after::text
    )::text
$$;
"""
SEAL = """
CREATE FUNCTION seal_audit_event(event bigint) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    e accounts_auditevent;
    head accounts_audithead;
    sealed bytea;
BEGIN
    -- One at a time in the whole log: transactions that write to several chains cannot wait in a circle.
    PERFORM pg_advisory_xact_lock(hashtext('accounts_auditevent'));
    SELECT * INTO e FROM accounts_auditevent WHERE id = event;
    IF NOT FOUND THEN
        RETURN;  -- Its savepoint was rolled back, or the table was emptied.
    END IF;
    INSERT INTO accounts_audithead (chain, position, digest, purged)
    VALUES (coalesce(e.workspace_id, 0), 0, '', 0) ON CONFLICT DO NOTHING;
    SELECT * INTO head FROM accounts_audithead WHERE chain = coalesce(e.workspace_id, 0);
    sealed := sha256(head.digest || convert_to(audit_event_text(e, head.position + 1), 'UTF8'));
    UPDATE accounts_auditevent
       SET position = head.position + 1, previous = head.digest, digest = sealed WHERE id = event;
    UPDATE accounts_audithead SET position = head.position + 1, digest = sealed WHERE chain = head.chain;
END $$;
CREATE FUNCTION seal_new_audit_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM seal_audit_event(NEW.id);
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION seal_audit_event(bigint) FROM PUBLIC;
CREATE CONSTRAINT TRIGGER audit_rows_are_sealed AFTER INSERT ON accounts_auditevent
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION seal_new_audit_event();
"""
NO_SEAL = """
DROP TRIGGER audit_rows_are_sealed ON accounts_auditevent;
DROP FUNCTION seal_new_audit_event();
DROP FUNCTION seal_audit_event(bigint);
"""
# As before, but that an event may be sealed, once, with nothing else of it changed.
REFUSE = """
CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < now() - make_interval(
            days => audit_days((SELECT plan FROM accounts_workspace WHERE id = OLD.workspace_id))
        ) THEN
            RETURN OLD;
        END IF;
    ELSIF TG_OP = 'UPDATE' THEN
        IF OLD.digest IS NULL AND NEW.digest IS NOT NULL
           AND to_jsonb(OLD) - '{position,previous,digest}'::text[]
             = to_jsonb(NEW) - '{position,previous,digest}'::text[] THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is only added to' USING ERRCODE = 'insufficient_privilege';
END $$;
"""
# Only the beginning of a chain goes, up to the first event that is kept: what is left fits together.
PURGE = """
CREATE OR REPLACE FUNCTION purge_audit_log(rows_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    removed integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('accounts_auditevent'));
    WITH due AS (
        SELECT old.id FROM accounts_workspace w CROSS JOIN LATERAL (
            SELECT min(e.position) AS first FROM accounts_auditevent e
             WHERE e.workspace_id = w.id AND e.at >= now() - make_interval(days => audit_days(w.plan))
        ) kept CROSS JOIN LATERAL (
            SELECT e.id FROM accounts_auditevent e
             WHERE e.workspace_id = w.id AND e.at < now() - make_interval(days => audit_days(w.plan))
               AND e.position < coalesce(kept.first, 9223372036854775807)
             ORDER BY e.position LIMIT rows_max
        ) old
        UNION ALL
        SELECT old.id FROM (
            SELECT min(e.position) AS first FROM accounts_auditevent e
             WHERE e.workspace_id IS NULL AND e.at >= now() - make_interval(days => audit_days(NULL))
        ) kept CROSS JOIN LATERAL (
            SELECT e.id FROM accounts_auditevent e
             WHERE e.workspace_id IS NULL AND e.at < now() - make_interval(days => audit_days(NULL))
               AND e.position < coalesce(kept.first, 9223372036854775807)
             ORDER BY e.position LIMIT rows_max
        ) old
        LIMIT rows_max
    ), gone AS (
        DELETE FROM accounts_auditevent e USING due WHERE e.id = due.id
        RETURNING coalesce(e.workspace_id, 0) AS chain, e.position
    ), ends AS (
        SELECT chain, max(position) AS last, count(*) AS events FROM gone GROUP BY chain
    ), marked AS (
        UPDATE accounts_audithead h SET purged = greatest(h.purged, ends.last) FROM ends
         WHERE h.chain = ends.chain
    )
    SELECT coalesce(sum(events), 0) INTO removed FROM ends;
    RETURN removed;
END $$;
"""
SEAL_OLD = """
DO $$
DECLARE
    event bigint;
BEGIN
    FOR event IN SELECT id FROM accounts_auditevent WHERE digest IS NULL ORDER BY id LOOP
        PERFORM seal_audit_event(event);
    END LOOP;
END $$;
"""


def take_rights(apps: Any, schema_editor: Any) -> None:
    """Let every role but the owner of the table only read."""
    append_only.change_rights(
        schema_editor, "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {} FROM", "accounts_audithead"
    )


def replaced(statement: str) -> str:
    """A statement of append_only that makes a function, for a function that is there; nothing after it."""
    return statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION").partition("CREATE TRIGGER")[0]


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_require_second_factor")]

    operations = [
        migrations.AddField("auditevent", "position", models.BigIntegerField(editable=False, null=True)),
        migrations.AddField("auditevent", "previous", models.BinaryField(null=True)),
        migrations.AddField("auditevent", "digest", models.BinaryField(null=True)),
        migrations.CreateModel(
            name="AuditHead",
            fields=[
                ("chain", models.BigIntegerField(primary_key=True, serialize=False)),
                ("position", models.BigIntegerField()),
                ("digest", models.BinaryField()),
                ("purged", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.RunPython(take_rights, migrations.RunPython.noop),
        migrations.RunSQL(TEXT, "DROP FUNCTION audit_event_text(accounts_auditevent, bigint)"),
        migrations.RunSQL(REFUSE, replaced(append_only.REFUSE)),
        migrations.RunSQL(SEAL, NO_SEAL),
        migrations.RunSQL(SEAL_OLD, migrations.RunSQL.noop),
        migrations.RunSQL(PURGE, replaced(append_only.PURGE)),
        migrations.AddConstraint(
            "auditevent",
            models.UniqueConstraint(fields=("workspace", "position"), name="accounts_audit_by_position"),
        ),
    ]
