"""A dataset that another transaction holds, as a job or an edit does."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from datasets.models import Dataset


@contextmanager
def held(dataset: Dataset, lock: str) -> Iterator[None]:
    """Hold the row of a dataset on a connection of its own; `lock` is FOR SHARE or FOR UPDATE."""
    writer = connections.create_connection("default")
    try:
        writer.set_autocommit(False)
        with writer.cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM datasets_dataset WHERE id = %s {lock}", [dataset.pk])  # noqa: S608
        yield
    finally:
        writer.rollback()
        writer.close()
