"""An account as large as the largest plan allows: many tokens, many datasets, many grants, in seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection

from apperate.database import pool
from datasets.models import Dataset
from tests.support.factories import LONG_AGO, PRICES_SCHEMA, WorkspaceFactory
from tokens.models import CreditWindow, Grant, Revision, Secret, Token
from tokens.rules import token_format
from tokens.rules.token_format import TokenKind

# One row a grant. The token of revision n may read the datasets from 7n on, wrapping round.
GRANTS = """
INSERT INTO tokens_grant (revision_id, dataset_id, can_read, can_write, can_delete)
SELECT r.id, d.id, true, false, false
  FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM tokens_revision) r
 CROSS JOIN generate_series(0, %(each)s - 1) AS step
  JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM datasets_dataset) d
    ON d.place = (r.place * 7 + step) %% %(datasets)s
"""


@dataclass(frozen=True)
class Account:
    values: list[str]  # of the tokens
    datasets: int

    def path(self, token: int, step: int = 0) -> str:
        """A dataset that the token of this number may read."""
        return f"/v1/data/ACME/D{(token * 7 + step) % self.datasets}?token={self.values[token]}"


def fill(*, tokens: int, datasets: int, grants_each: int) -> Account:
    """Make the one workspace of an empty database, and tell the planner how large it is."""
    with connection.cursor() as cursor:
        # Deleted rows leave their pages in an index; with many of them the planner reads small tables whole.
        for model in (Dataset, Token, Secret, Revision, CreditWindow, Grant):
            cursor.execute(f"REINDEX TABLE {model._meta.db_table}")
    workspace = WorkspaceFactory(name="ACME")
    Dataset.objects.bulk_create(
        Dataset(
            workspace=workspace, name=f"D{number}", schema_json=PRICES_SCHEMA,
            column_mapping={"key": "ticker", "date": "date"},
        )
        for number in range(datasets)
    )  # fmt: skip
    values = [token_format.make(TokenKind.PUBLISHABLE) for _ in range(tokens)]
    made = Token.objects.bulk_create(
        Token(workspace=workspace, kind=TokenKind.PUBLISHABLE, created_at=LONG_AGO) for _ in values
    )
    Secret.objects.bulk_create(
        Secret(token=token, digest=token_format.digest(value), clear=value, masked=token_format.mask(value))
        for token, value in zip(made, values, strict=True)
    )
    Revision.objects.bulk_create(
        Revision(token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, core_credit_limit=1_000)
        for token in made
    )
    CreditWindow.objects.bulk_create(CreditWindow(token=token, month=LONG_AGO.date()) for token in made)
    with connection.cursor() as cursor:
        cursor.execute(GRANTS, {"each": grants_each, "datasets": datasets})
        cursor.execute("ANALYZE")
    return Account(values, datasets)


@contextmanager
def statements(patch: Any) -> Iterator[list[tuple[Any, Any]]]:
    """The data plane's statements with their parameters, as they are sent."""
    sent: list[tuple[Any, Any]] = []
    fetch_all = pool.fetch_all

    async def noted(statement: Any, parameters: Any, **options: Any) -> Any:
        sent.append((statement, parameters))
        return await fetch_all(statement, parameters, **options)

    with patch.context() as inner:
        inner.setattr(pool, "fetch_all", noted)
        yield sent
