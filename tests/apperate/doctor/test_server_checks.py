"""The doctor on the database's server and on rows that were copied in: what is broken is said."""

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, connection

from apperate.accounts.models import Workspace
from apperate.doctor import database, server
from apperate.doctor.findings import OK, Finding
from tests.support.factories import TokenFactory

pytestmark = pytest.mark.django_db


def level(finding: Finding, expected: str, said: str) -> None:
    assert finding.level == expected, finding
    assert said in f"{finding.detail} {finding.advice}"
    assert bool(finding.advice) == (expected != OK)


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_a_server_that_forgets_is_named() -> None:
    level(server.durability(), "ok", "on the disk")
    execute("SET LOCAL synchronous_commit = off")

    level(server.durability(), "warn", "synchronous_commit is off")


def test_a_table_that_is_empty_after_a_crash_is_named() -> None:
    execute("ALTER TABLE tokens_usagecounter SET UNLOGGED")

    level(server.durability(), "fail", "tokens_usagecounter is unlogged")


def test_a_database_that_takes_no_writes_is_named() -> None:
    level(server.writable(), "ok", "takes writes")
    execute("SET LOCAL default_transaction_read_only = on")

    level(server.writable(), "fail", "default_transaction_read_only is on")


def test_a_table_that_is_not_cleaned_is_named() -> None:
    level(server.cleaning(), "ok", "makes room")
    execute("ALTER TABLE tokens_usagecounter SET (autovacuum_enabled = off)")

    level(server.cleaning(), "fail", "Autovacuum is off for tokens_usagecounter")


def test_fewer_connections_than_the_workers_want(settings: LazySettings) -> None:
    settings.WORKERS = 1
    level(server.connections_allowed(), "ok", "1 workers want")
    settings.WORKERS = 64

    level(server.connections_allowed(), "warn", "under load requests are refused")


def test_a_database_of_a_later_version_is_named() -> None:
    execute("INSERT INTO django_migrations (app, name, applied) VALUES ('tokens', '0099_later', now())")

    level(database.tables(), "fail", "tokens.0099_later is not known to this one")


def test_migrations_of_an_app_that_is_gone_are_nobodys_fault() -> None:
    execute("INSERT INTO django_migrations (app, name, applied) VALUES ('elsewhere', '0001_initial', now())")

    level(database.tables(), "ok", "Every migration is applied")


def test_a_cache_without_its_table_is_named() -> None:
    execute("ALTER TABLE apperate_cache RENAME TO elsewhere")

    level(database.tables(), "fail", "manage.py createcachetable")


@pytest.mark.django_db(transaction=True)
def test_an_index_that_was_not_finished_is_named() -> None:
    execute("CREATE TABLE doubled (number integer)")
    try:
        execute("INSERT INTO doubled VALUES (1), (1)")
        with pytest.raises(IntegrityError):
            execute("CREATE UNIQUE INDEX CONCURRENTLY half_done ON doubled (number)")

        level(database.tables(), "fail", "index half_done")
    finally:
        execute("DROP TABLE doubled")


def test_ids_that_are_taken_already_are_named(workspace: Workspace) -> None:
    TokenFactory(workspace=workspace)
    level(database.restored(), "ok", "of this server")
    execute("ALTER SEQUENCE tokens_token_id_seq RESTART WITH 1")

    level(database.restored(), "fail", "The next id of tokens_token is taken already")


def test_rows_stamped_by_another_server_are_named(workspace: Workspace) -> None:
    execute("ALTER TABLE accounts_workspace DISABLE TRIGGER stamp_change")
    Workspace.objects.filter(pk=workspace.pk).update(changed_xid=2**60)

    level(database.restored(), "fail", "accounts_workspace is stamped by another server")
