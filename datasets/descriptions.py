"""Datasets as the API describes them: the Dataset object, and the shorter inventory item of older clients.

describe(datasets) -> list of dicts          one counting query for all of them
inventory(datasets) -> list of dicts
"""

from collections.abc import Sequence
from typing import Any

from django.db import OperationalError, connection, transaction

from datasets import store
from datasets.models import Dataset
from datasets.system_properties import milliseconds

COUNTING_MILLISECONDS = 2_000


def describe(datasets: Sequence[Dataset]) -> list[dict[str, Any]]:
    """Every fact of each dataset; `records`, `keys` and `date` are null when counting takes too long."""
    facts = _counted([dataset.pk for dataset in datasets])
    return [_described(dataset, facts) for dataset in datasets]


def inventory(datasets: Sequence[Dataset]) -> list[dict[str, Any]]:
    """What /time-series lists: id, description, schema, weight (credits a record), created, lastUpdated."""
    facts = _counted([dataset.pk for dataset in datasets])
    return [
        {
            "id": found["datasetId"],
            "description": found["description"] or found["title"],
            "schema": found["schema"],
            "weight": dataset.credits_per_record,
            "created": milliseconds(dataset.created_at),
            "lastUpdated": found["updated"],
        }
        for dataset, found in ((dataset, _described(dataset, facts)) for dataset in datasets)
    ]


def _described(dataset: Dataset, facts: dict[int, tuple[Any, ...]] | None) -> dict[str, Any]:
    empty = (0, 0, None, None)
    records, keys, date, updated = (None, None, None, None) if facts is None else facts.get(dataset.pk, empty)
    return {
        "datasetId": dataset.name,
        "title": dataset.title,
        "description": dataset.description,
        "email": dataset.email,
        "source": dataset.source,
        "schema": dataset.schema_json,
        "columnMapping": dataset.column_mapping,
        "smartLinkAttributes": dataset.smart_link_attributes,
        "parentDatasetId": None,
        "records": records,
        "keys": keys,
        "date": None if date is None else milliseconds(date),
        "updated": milliseconds(max(filter(None, (updated, dataset.updated_at)))),
    }


def _counted(ids: Sequence[int]) -> dict[int, tuple[Any, ...]] | None:
    """Records, different keys, latest date and last change of each; None when that takes too long."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            store.limit_statement(milliseconds=COUNTING_MILLISECONDS)
            cursor.execute(
                """SELECT dataset_id, sum(n)::bigint, count(*), max(date), max(updated)
                     FROM (SELECT dataset_id, key, count(*) AS n, max(date) AS date, max(updated) AS updated
                             FROM records WHERE dataset_id = ANY(%s) GROUP BY dataset_id, key) AS by_key
                    GROUP BY dataset_id""",
                [list(ids)],
            )
            return {row[0]: row[1:] for row in cursor.fetchall()}
    except OperationalError:
        return None
