"""The rights of the role that serves requests, where another role owns the tables.

    statements(role) -> list of SQL      what gives them, for the owner of the tables to run
    missing(role) -> list of str         what the role cannot do yet, such as "INSERT on records"

The audit log is only added to, and its heads are written by a function of the owner. What is made later gets
the same rights by default. Functions need no grant: everyone may call them but the one that seals the log.
"""

from typing import Any

from django.db import connection
from psycopg import sql

TABLE_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
SEQUENCE_RIGHTS = ("USAGE", "SELECT", "UPDATE")
# table → what even the serving role may not do
WITHHELD = {
    "accounts_auditevent": ("UPDATE", "DELETE", "TRUNCATE"),
    "accounts_audithead": ("INSERT", "UPDATE", "DELETE", "TRUNCATE"),
}


def statements(role: str) -> list[sql.Composed]:
    to = sql.Identifier(role)
    database = sql.Identifier(str(connection.settings_dict["NAME"]))

    def of(template: str, **names: sql.Composable) -> sql.Composed:
        return sql.SQL(template).format(to=to, **names)

    tables, sequences = (sql.SQL(", ".join(rights)) for rights in (TABLE_RIGHTS, SEQUENCE_RIGHTS))
    return [
        of("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {to}", database=database),
        of("GRANT USAGE ON SCHEMA public TO {to}"),
        of("GRANT {rights} ON ALL TABLES IN SCHEMA public TO {to}", rights=tables),
        of("GRANT {rights} ON ALL SEQUENCES IN SCHEMA public TO {to}", rights=sequences),
        *(
            of(
                "REVOKE {rights} ON {table} FROM {to}",
                rights=sql.SQL(", ".join(rights)),
                table=sql.Identifier(table),
            )
            for table, rights in WITHHELD.items()
        ),
        of("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {rights} ON TABLES TO {to}", rights=tables),
        of("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {rights} ON SEQUENCES TO {to}", rights=sequences),
    ]


def missing(role: str) -> list[str]:
    with connection.cursor() as cursor:
        rows: list[Any] = []
        for kinds, privilege, rights in (
            (["r", "p"], "has_table_privilege", TABLE_RIGHTS),
            (["S"], "has_sequence_privilege", ("USAGE",)),
        ):
            cursor.execute(
                f"""
                SELECT r.name, c.relname FROM pg_class c CROSS JOIN unnest(%s::text[]) AS r(name)
                 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = ANY (%s::"char"[])
                   AND NOT c.relispartition
                   AND NOT {privilege}(%s, c.oid, r.name)
                 ORDER BY c.relname, r.name""",  # noqa: S608  constants
                [list(rights), kinds, role],
            )
            rows += cursor.fetchall()
    return [f"{right} on {name}" for right, name in rows if right not in WITHHELD.get(name, ())]
