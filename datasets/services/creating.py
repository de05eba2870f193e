"""Creating datasets: each function one transaction, with its audit row."""

import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from apperate.accounts.audit import trail
from apperate.accounts.models import CORE, PREMIUM, User, Workspace
from apperate.kernel.json_text import dumps, loads_records
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.files.inference import infer_records
from datasets.models import Dataset
from datasets.records.checking import text_fault
from datasets.records.schema import Schema, dataset_id, is_storable, parse_schema

ATTRIBUTES_CHARS_MAX = 10_000
TEXT_MAX = {"title": 200, "description": 5_000, "source": 500, "email": 254}


SYSTEM_TITLES = {CORE: "Core data", PREMIUM: "Premium data"}


def system_workspace(name: str) -> Workspace:
    """CORE or PREMIUM, made if missing: nobody's account, filled by operators."""
    workspace, _ = Workspace.objects.get_or_create(
        name=name, defaults={"title": SYSTEM_TITLES[name], "is_system": True}
    )
    return workspace


def new_dataset_name() -> str:
    """A random id, most likely free, for a dataset created without one, like DATASET_4VUW2G5KY."""
    return "DATASET_" + "".join(secrets.choice("23456789ABCDEFGHJKMNPQRSTUVWXYZ") for _ in range(9))


def create_dataset(
    *,
    workspace: Workspace,
    name: str,
    schema: Schema,
    by: User | None,
    now: datetime,
    details: Mapping[str, Any] | None = None,
    credits_per_record: int | None = None,
) -> Dataset | Refusal:
    """A new, empty dataset. `details`: title, description, source, email, smart_link_attributes."""
    stored_name = dataset_id(name)
    if isinstance(stored_name, Refusal):
        return stored_name
    texts = checked_details(details or {})
    if isinstance(texts, Refusal):
        return texts
    with transaction.atomic():
        Workspace.objects.select_for_update().get(
            pk=workspace.pk
        )  # So that two cannot both be the last one allowed.
        if refusal := no_room(workspace):
            return refusal
        price = (
            Dataset.default_credits_per_record(workspace)
            if credits_per_record is None
            else credits_per_record
        )
        try:
            with transaction.atomic():
                dataset = Dataset.objects.create(
                    workspace=workspace,
                    name=stored_name,
                    schema_json=schema.to_json(),
                    column_mapping=schema.column_mapping(),
                    credits_per_record=price,
                    created_by=by,
                    created_at=now,
                    updated_at=now,
                    **texts,
                )
        except IntegrityError:
            return name_taken(workspace, stored_name)
        trail.record(
            "dataset.create",
            workspace=workspace,
            by=by,
            now=now,
            target=stored_name,
            after={"name": stored_name},
        )
    return dataset


def no_room(workspace: Workspace) -> Refusal | None:
    """Why the workspace's plan allows no further dataset, if so."""
    count, limit = workspace.datasets.kept().count(), workspace.limits.datasets_max
    if count < limit:
        return None
    return Refusal(
        "plan-required",
        f"The {workspace.limits.title} plan has room for {limit:,} datasets; there are {count:,}.",
        check="body",
        needed="fewer datasets, or a larger plan",
    )


def name_taken(workspace: Workspace, name: str) -> Refusal:
    deleted = workspace.datasets.filter(name=name).exclude(deleted_at=None).exists()
    why = "was deleted less than a day ago and can still be restored" if deleted else "exists already"
    return invalid_value(
        "datasetId", name, f"another id, because {workspace.name}/{name} {why}", check="body"
    )


def create_from_document(
    *, workspace: Workspace, document: Any, by: User | None, now: datetime
) -> Dataset | Refusal:
    """POST /v1/datasets/WS: `{"dataset": {…}}` with datasetId, schema, columnMapping and texts."""
    body = document.get("dataset", document) if isinstance(document, dict) else None
    if not isinstance(body, dict):
        return invalid_value("dataset", type(document).__name__, 'an object: {"dataset": {…}}', check="body")
    name = body.get("datasetId")
    if not isinstance(name, str):
        return invalid_value("datasetId", name, "1 to 63 letters, digits or underscores", check="body")
    schema = parse_schema(body.get("schema"), body.get("columnMapping"))
    if isinstance(schema, Refusal):
        return schema
    details = {name: body[name] for name in TEXT_MAX if body.get(name) is not None}
    details["smart_link_attributes"] = body.get("smartLinkAttributes") or []
    return create_dataset(workspace=workspace, name=name, schema=schema, by=by, now=now, details=details)


def create_for_records(
    *, workspace: Workspace, name: str, body: bytes, by: User | None, now: datetime
) -> Dataset | Refusal:
    """An empty dataset with the schema and index inferred from a JSON body of records."""
    records = loads_records(body)
    schema = records if isinstance(records, Refusal) else infer_records(records)
    if isinstance(schema, Refusal):
        return schema
    return create_dataset(workspace=workspace, name=name, schema=schema, by=by, now=now)


def checked_details(details: Mapping[str, Any], *, only_given: bool = False) -> dict[str, Any] | Refusal:
    """A dataset's texts and attributes in stored form, or the first fault in them.

    With only_given=True nothing is added that `details` does not contain.
    """
    for name, length_max in TEXT_MAX.items():
        text = details.get(name, "")
        if not isinstance(text, str) or len(text) > length_max or not is_storable(text):
            return invalid_value(name, text, f"text of at most {length_max:,} characters", check="body")
    if email := details.get("email"):
        try:
            validate_email(email)
        except ValidationError:
            return invalid_value("email", email, "an e-mail address", check="body")
    if only_given and "smart_link_attributes" not in details:
        return dict(details)
    attributes = details.get("smart_link_attributes", [])
    written = dumps(attributes)
    if not isinstance(attributes, list) or len(written) > ATTRIBUTES_CHARS_MAX or text_fault(written):
        needed = f"a list of at most {ATTRIBUTES_CHARS_MAX:,} characters, without NUL"
        return invalid_value("smartLinkAttributes", ascii(written)[1:-1], needed, check="body")
    # Numbers came as Decimals, to keep their digits; this column is PostgreSQL's own JSON.
    return {**details, "smart_link_attributes": json.loads(written)}
