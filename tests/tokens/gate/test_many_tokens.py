"""A large account costs a request no more than a small one: how many statements, and by which plans."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from apperate.database.changes import changes
from tests.support.counting_proxy import CountingProxy
from tests.support.data_plane_client import DataPlaneClient
from tests.support.load.many_tokens import fill, statements

pytestmark = pytest.mark.django_db(transaction=True)

TOKENS, DATASETS, GRANTS_EACH = 2_000, 200, 20
# These have next to no rows here, and reading all of those is right.
SMALL = {"accounts_workspace", "tokens_signingsecret", "records"}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


@pytest.mark.check("S08")
def test_a_cold_authorisation_in_a_large_account_is_three_statements_by_indexes(
    api: DataPlaneClient,
    proxy: CountingProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E-P1 in small: token and dataset are new to the worker; no statement reads more than its own rows."""
    account = fill(tokens=TOKENS, datasets=DATASETS, grants_each=GRANTS_EACH)
    with statements(monkeypatch) as sent:
        for number in (0, 777, TOKENS - 1):
            changes.forget()
            api.run(changes.poll())
            before, sent_before = proxy.round_trips, len(sent)

            assert api.get(account.path(number, 5)).status == 200
            assert api.get(account.path(number, 5)).status == 200

            # Two statements authorise, the third reads; the second request reads alone.
            assert proxy.round_trips - before <= 4
            assert len(sent) - sent_before <= 4
        assert api.get(account.path(3, GRANTS_EACH)).code == "dataset-not-granted"

    with connection.cursor() as cursor:
        for statement, parameters in sent:
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + as_text(statement), parameters)
            plan = cursor.fetchone()[0][0]

            for node in nodes(plan["Plan"]):
                relation = node.get("Relation Name")
                if relation and relation not in SMALL:
                    assert "Index" in node["Node Type"] or "Bitmap" in node["Node Type"], (relation, node)
                    assert node["Actual Rows"] <= GRANTS_EACH + 1, (relation, node)


def as_text(statement: Any) -> str:
    return statement if isinstance(statement, str) else str(statement.as_string(connection.connection))
