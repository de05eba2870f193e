"""Datasets as the API describes them: the Dataset object, and the shorter inventory item of older clients.

describe(datasets, owner_id=…) -> list of dicts     one counting query for all of them
inventory(datasets, owner_id=…) -> list of dicts

`owner_id` is the workspace whose secret token is calling. For anybody else descriptions are free but records
are not, so how many records a priced dataset has, and when one changed, is left out.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import OperationalError, transaction

from apperate.kernel.dates import milliseconds
from datasets.models import Dataset
from datasets.storage import writes


def describe(datasets: Sequence[Dataset], *, owner_id: int | None) -> list[dict[str, Any]]:
    """All facts about each dataset; `records`, `keys` and `date` are null when they are withheld, or when
    counting takes too long.
    """
    facts = _counted(datasets, owner_id)
    return [_described(dataset, facts) for dataset in datasets]


def inventory(datasets: Sequence[Dataset], *, owner_id: int | None) -> list[dict[str, Any]]:
    """The /time-series items: id, description, schema, weight (credits per record), created, lastUpdated."""
    facts = _counted(datasets, owner_id)
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


Facts = tuple[int | None, int | None, datetime | None, datetime | None]
NOT_TOLD: Facts = (None, None, None, None)
EMPTY: Facts = (0, 0, None, None)


def _described(dataset: Dataset, facts: Mapping[int, Facts]) -> dict[str, Any]:
    records, keys, date, updated = facts.get(dataset.pk, NOT_TOLD)
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


def _counted(datasets: Sequence[Dataset], owner_id: int | None) -> Mapping[int, Facts]:
    """Records, distinct keys, latest date and last change of each dataset for which they are not withheld;
    empty when counting takes too long.
    """
    ids = [one.pk for one in datasets if one.credits_per_record == 0 or one.workspace_id == owner_id]
    try:
        with transaction.atomic():
            writes.limit_statement(milliseconds=writes.COUNTING_MILLISECONDS)
            return dict.fromkeys(ids, EMPTY) | writes.extents(ids)
    except OperationalError:
        return {}
