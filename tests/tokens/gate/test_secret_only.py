"""S03, S18: what needs the secret token refuses every publishable one; a method is the one that was sent."""

import re
from typing import Any

import pytest
from django.urls import URLPattern

from datasets.api import urls
from datasets.models import Dataset
from tests.support.data_plane_client import DataPlaneClient
from tests.support.factories import LONG_AGO, DatasetFactory, RevisionFactory, TokenFactory
from tokens.models import Token

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = {"workspace": "ACME", "name": "PRICES", "job_id": "0" * 32, "usage_type": "messages"}


@pytest.fixture
def prices(workspace: Any) -> Dataset:
    return DatasetFactory(workspace=workspace, name="PRICES")


@pytest.fixture
def almighty(prices: Dataset) -> Token:
    """A publishable token with every grant there is."""
    token = TokenFactory(workspace=prices.workspace, settings=False)
    all_of_them = {f"all_datasets_{action}": True for action in ("read", "write", "delete")}
    RevisionFactory(
        token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, core_data_access=True,
        premium_data_access=True, grants={prices: "read write delete"}, **all_of_them,
    )  # fmt: skip
    return token


def path_of(pattern: URLPattern) -> str:
    route = re.sub(r"<segment:(\w+)>", lambda found: NAMES.get(found[1], "X"), str(pattern.pattern))
    return "/v1/" + re.sub(r"\(\?P<(\w+)>.*?\)", lambda found: NAMES.get(found[1], "X"), route).strip("^$")


@pytest.mark.check("S03")
def test_what_needs_the_secret_token_refuses_a_publishable_one_with_every_grant(
    api: DataPlaneClient, almighty: Token
) -> None:
    """Every route and method whose policy is the secret token, whatever is granted."""
    asked = []
    for pattern in urls.urlpatterns:
        view = pattern.callback
        policies = view.policy if isinstance(view, urls.ByMethod) else {}
        for method in (method for method, policy in policies.items() if policy == "secret token"):
            reply = api.request(method, f"{path_of(pattern)}?token={almighty.test_value}")

            assert (reply.status, reply.code) == (401, "secret-required"), (method, path_of(pattern))
            asked.append((method, path_of(pattern)))
    assert len(asked) >= 10, asked
    assert Dataset.objects.get().name == "PRICES"


@pytest.mark.check("S18")
def test_no_header_or_parameter_makes_another_method(api: DataPlaneClient, almighty: Token) -> None:
    record = [{"ticker": "AAPL", "date": "2024-01-02"}]
    url = f"/v1/record/ACME/PRICES?token={almighty.test_value}"
    assert api.post(url, record).status == 200
    path = f"/v1/data/ACME/PRICES/AAPL?last=1&token={almighty.test_value}&_method=DELETE"

    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        assert api.get(path, headers={name: "DELETE"}).json() == record
        assert api.get(path).json() == record
