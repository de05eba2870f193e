"""A trigger stamps rows that caches follow with the transaction that wrote them."""

from django.db import migrations

FUNCTION = """
CREATE FUNCTION stamp_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_xid := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;
"""


def stamp(table: str) -> migrations.RunSQL:
    """The operation that makes a table's rows carry their last transaction."""
    return migrations.RunSQL(
        f"CREATE TRIGGER stamp_change BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION stamp_change()",
        f"DROP TRIGGER stamp_change ON {table}",
    )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION stamp_change()"),
        stamp("accounts_workspace"),
    ]
