"""S39: names from users never become SQL, and never arguments of a query.

Faults of this kind in Django were names given to values() (CVE-2024-42005), aliases given to annotate()
(CVE-2025-57833, CVE-2025-13372) and `_connector` given to filter() (CVE-2025-64459).
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from django.db import connection
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apperate.accounts.models import Workspace
from datasets.records.schema import NAME_CHARS_MAX
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import DatasetFactory, TokenFactory, WorkspaceFactory
from tests.support.installation import ROOT
from tokens.rules.token_format import TokenKind

# Methods of a queryset whose arguments, or their names, become names or operators in SQL. create() is none of
# them: it takes names of fields alone.
QUERY_METHODS = {
    "aggregate", "alias", "annotate", "defer", "distinct", "exclude", "extra", "filter", "get",
    "get_or_create", "in_bulk", "only", "order_by", "prefetch_related", "raw", "select_related", "update",
    "update_or_create", "values", "values_list", "Q", "FilteredRelation",
}  # fmt: skip
# Spread arguments that are constants of the code, each read by a person.
SPREAD_BY_CODE = {
    ("tokens/usage/series.py", ".values(*keys)"),
    ("tokens/usage/series.py", ".order_by(*(F(key) for key in keys))"),
    ("datasets/api/job_lists.py", ".order_by(*order)"),
    ("datasets/jobs/run.py", ".update(**facts)"),
}
ODD_NAMES = (
    "_connector", "_negated", "OR", "1=1", "AND 1=0) UNION SELECT value FROM tokens_secret --",
    'data"."secret', "data'->>'x", 'a"; DROP TABLE records; --', "a'); DELETE FROM records; --", "a.b",
    "a__b", "%s", "%(dataset)s", "{close}", "$1", "\\", "\\'", "/*", "--", "a b", "\t", "\u202e", "é", "日付",
    "select", "key", "pk", "workspace__title", "x" * NAME_CHARS_MAX, "日" * NAME_CHARS_MAX,
)  # fmt: skip
LIST_PAGES = (
    "/tokens/", "/tokens/usage/", "/team/audit-log/", "/jobs/", "/datasets/", "/datasets/PRICES/",
    "/datasets/PRICES/records/", "/datasets/PRICES/docs/",
)  # fmt: skip


def spread_arguments(path: Path) -> Iterator[tuple[str, str]]:
    """Calls of a query method with * or ** in them: the file, and the call without what it is called on."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        is_spread = any(isinstance(one, ast.Starred) for one in node.args) or any(
            keyword.arg is None for keyword in node.keywords
        )
        if name in QUERY_METHODS and is_spread:
            given_ = ", ".join(
                [ast.unparse(one) for one in node.args] + [ast.unparse(keyword) for keyword in node.keywords]
            )
            mark = "." if isinstance(function, ast.Attribute) else ""
            yield str(path.relative_to(ROOT)), f"{mark}{name}({given_})"


@pytest.mark.check("S39")
def test_no_query_takes_its_names_from_a_variable_that_was_not_read_by_a_person() -> None:
    paths = [path for app in ("apperate", "tokens", "datasets") for path in (ROOT / app).rglob("*.py")]

    found = {one for path in paths if "migrations" not in path.parts for one in spread_arguments(path)}

    assert found == SPREAD_BY_CODE


@pytest.mark.check("S39")
@pytest.mark.django_db
@pytest.mark.parametrize("address", LIST_PAGES)
def test_names_of_parameters_change_no_query_of_a_page(
    address: str, workspace: Workspace, as_owner: Client
) -> None:
    DatasetFactory(workspace=workspace, name="PRICES")
    TokenFactory(workspace=workspace, nickname="Ours")
    stranger = WorkspaceFactory(name="STRANGER")
    TokenFactory(workspace=stranger, nickname="Foreign token")
    DatasetFactory(workspace=stranger, name="FOREIGN_PRICES")

    for name in ODD_NAMES:
        answer = as_owner.get(f"{address}?{urlencode({name: 'OR 1=1'})}")

        assert answer.status_code == 200, name
        assert b"Foreign token" not in answer.content and b"FOREIGN_PRICES" not in answer.content


@pytest.mark.django_db(transaction=True)
def test_names_of_parameters_change_no_query_of_the_api(api: DataPlaneClient, workspace: Workspace) -> None:
    base, token = written(api, workspace, ("close",))

    for name in ODD_NAMES:
        reply = api.get(f"{base}/other?{urlencode({'token': token, name: 'OR 1=1'})}")

        assert reply.status == 400 or (reply.status, reply.json()) == (200, []), (name, reply.body)
    assert len(api.get(f"{base}?token={token}&limit=9").json()) == 1


def written(api: DataPlaneClient, workspace: Workspace, names: tuple[str, ...]) -> tuple[str, str]:
    """A dataset with these properties and one record, which holds each name as its value: address, token."""
    dataset = DatasetFactory(
        workspace=workspace,
        schema_json={"type": "object", "properties": {name: {"type": "string"} for name in names}},
        column_mapping={"key": names[0]},
    )
    token = TokenFactory(workspace=workspace, kind=TokenKind.SECRET).test_value
    base = f"/v1/data/{workspace.name}/{dataset.name}"
    reply = api.post(f"{base.replace('data', 'record')}?token={token}", [{name: name for name in names}])
    assert reply.status == 200, reply.body
    return base, token


def assert_found_by_name(api: DataPlaneClient, base: str, token: str, name: str) -> None:
    """A condition and a chosen property of that name find the record; the opposite condition finds none."""
    said, text = '"' + name.replace('"', '""') + '"', "'" + name.replace("'", "''") + "'"
    queries = [
        ({"where": f"{said} eq {text}"}, [name]),
        ({"where": f"not {said} eq null"}, [name]),
        ({"where": f"{said} ne {text}"}, []),
    ]
    if "," not in name:
        queries.append(({"filter": name}, [name]))
    for query, expected in queries:
        reply = api.get(f"{base}?{urlencode({'token': token, **query})}")
        assert reply.status == 200, (name, query, reply.body)
        assert [record[name] for record in reply.json()] == expected


@pytest.mark.django_db(transaction=True)
def test_properties_of_odd_names_are_written_found_and_exported(
    api: DataPlaneClient, workspace: Workspace
) -> None:
    base, token = written(api, workspace, ODD_NAMES)

    for name in ODD_NAMES:
        assert_found_by_name(api, base, token, name)
    for kind in ("csv", "parquet", "json"):
        reply = api.get(f"{base}?token={token}&format={kind}")
        assert reply.status == 200 and b"records; --" in reply.body
    assert api.get(f"{base}/{quote(ODD_NAMES[0])}?token={token}").json() == [
        {name: name for name in ODD_NAMES}
    ]
    # Nothing that the names said was done.
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM records")
        assert cursor.fetchone() == (1,)


names_of_people = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=80
).filter(lambda name: not name.startswith("_"))


@pytest.mark.check("S39")
@pytest.mark.django_db(transaction=True)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(names_of_people, min_size=1, max_size=12, unique=True))
def test_properties_of_any_name_are_written_and_found(api: DataPlaneClient, names: list[str]) -> None:
    base, token = written(api, WorkspaceFactory(), tuple(names))

    for name in names:
        assert_found_by_name(api, base, token, name)
