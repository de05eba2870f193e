"""The role that serves requests gets what it needs on tables that another role owns, and no more."""

from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction

from apperate.database.pool import connection_arguments
from apperate.database.schema import grants

pytestmark = pytest.mark.django_db(transaction=True)
ROLE = "apperate_app"


def has_two_roles() -> bool:
    return bool(connection.settings_dict["USER"] == "apperate_owner")


def printed(*arguments: str) -> str:
    said = StringIO()
    call_command("grants", *arguments, stdout=said)
    return said.getvalue()


def test_what_is_missing_is_named_and_given() -> None:
    if not has_two_roles():
        # The one role owns everything, and is told so.
        assert grants.missing(connection.settings_dict["USER"]) == []
        with pytest.raises(CommandError, match="it needs no rights"):
            printed(connection.settings_dict["USER"])
        return
    with transaction.atomic(), connection.cursor() as cursor:
        for kind in ("TABLES", "SEQUENCES"):
            cursor.execute(f"REVOKE ALL ON ALL {kind} IN SCHEMA public FROM {ROLE}")  # noqa: S608
        lacks = grants.missing(ROLE)
        assert {"SELECT on tokens_token", "INSERT on records", "USAGE on tokens_token_id_seq"} <= set(lacks)
        assert "UPDATE on accounts_auditevent" not in lacks
        assert "INSERT on accounts_auditevent" in lacks

        assert printed("--apply") == f"{ROLE} has the rights it needs.\n"

        assert grants.missing(ROLE) == []
        for table, rights in grants.WITHHELD.items():
            for right in rights:
                cursor.execute("SELECT has_table_privilege(%s, %s, %s)", [ROLE, table, right])
                assert cursor.fetchone() == (False,), f"{right} on {table}"


def test_the_role_works_with_what_is_printed() -> None:
    if not has_two_roles():
        return
    with connection.cursor() as cursor:
        cursor.execute(f"REVOKE ALL ON accounts_workspace, accounts_workspace_id_seq FROM {ROLE}")
    arguments = {**connection_arguments(), "user": ROLE}
    try:
        with psycopg.connect(**arguments) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("SELECT count(*) FROM accounts_workspace")
        with psycopg.connect(**connection_arguments()) as owner:
            for statement in printed().split(";\n"):
                if statement:
                    owner.execute(statement)
        with psycopg.connect(**{**arguments, "autocommit": False}) as app:
            app.execute("SELECT nextval('accounts_workspace_id_seq')")
            app.execute("DELETE FROM accounts_workspace WHERE false")
            app.rollback()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute("DELETE FROM accounts_auditevent")
    finally:
        printed("--apply")


def test_a_role_that_is_not_there_is_named_with_how_to_make_it() -> None:
    with pytest.raises(CommandError, match="There is no role nobody_at_all. Make it first: CREATE ROLE"):
        printed("nobody_at_all")
