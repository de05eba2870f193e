"""A server of the version before leaves out columns that it does not know: the database fills them in."""

from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.models.functions import Now
from django.utils import timezone

OURS = ("accounts", "datasets", "tokens")
# Made by chance, which only code can do, or a column of Django's own model.
WITHOUT = {
    "accounts.User.is_superuser",
    "datasets.IngestJob.public_id",
    "tokens.CreditAlert.id",
    "tokens.Token.public_id",
}


def filled_in_by_the_code() -> dict[str, Any]:
    """Each column that holds no NULL and that the code may leave to a default, with its model's field."""
    return {
        f"{model._meta.label}.{field.name}": field
        for model in apps.get_models()
        if model._meta.app_label in OURS and model._meta.managed
        for field in model._meta.concrete_fields
        if not field.null
        and not isinstance(field, models.AutoField)
        and not field.is_relation
        and (field.has_default() or (field.blank and field.empty_strings_allowed))
    }


def in_the_database(field: Any) -> Any:
    """The default that the model gives its column, as the code would write it."""
    default = field.db_default
    if isinstance(default, Now):
        return timezone.now
    return default.value if isinstance(default, models.Value) else default


def test_every_default_of_the_code_is_one_of_the_database() -> None:
    fields = filled_in_by_the_code()

    without = {name for name, field in fields.items() if not field.has_db_default()}

    assert without == WITHOUT
    assert len(fields) > 70


def test_both_defaults_are_the_same() -> None:
    for name, field in filled_in_by_the_code().items():
        if name not in WITHOUT:
            python = field.default if field.default is timezone.now else field.get_default()
            assert in_the_database(field) == python, name


@pytest.mark.django_db
def test_the_tables_have_these_defaults() -> None:
    """What the models say is in the catalogue, also for tables that plain SQL made."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT table_name || '.' || column_name FROM information_schema.columns
                WHERE table_schema = 'public' AND column_default IS NOT NULL"""
        )
        there = {name for (name,) in cursor.fetchall()}
    wanted = {
        f"{field.model._meta.db_table}.{field.column}"
        for name, field in filled_in_by_the_code().items()
        if name not in WITHOUT
    }

    assert not wanted - there
