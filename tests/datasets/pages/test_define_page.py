"""The page that makes a dataset without a file: its id and its properties as rows of a form."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apperate.accounts.models import User, Workspace
from datasets.models import Dataset
from datasets.pages import define as define_page
from tests.support.factories import DatasetFactory

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
GIVEN = {
    "name": "orders", "title": "Orders of the shop", "rows": "4",
    "p1-name": "customer", "p1-type": "string", "p1-role": "key",
    "p2-name": "day", "p2-type": "date", "p2-role": "date",
    "p3-name": "sum", "p3-type": "number", "p3-role": "", "p3-required": "on",
    "p4-name": " ", "p4-type": "string", "p4-role": "",
}  # fmt: skip


def define(client: Client, headers: dict[str, str] | None = None, **changes: str) -> Any:
    given = GIVEN | {name.replace("_", "-"): value for name, value in changes.items()}
    return client.post(reverse("datasets:define"), given, headers=headers or {})


def page(response: Any) -> str:
    return " ".join(response.content.decode().split())


def test_a_dataset_is_made_of_the_rows_that_have_a_name(as_admin: Client, workspace: Workspace) -> None:
    response = define(as_admin)

    assert response.headers["Location"] == reverse("datasets:detail", args=["ORDERS"])
    made = Dataset.objects.get(workspace=workspace)
    assert (made.name, made.title) == ("ORDERS", "Orders of the shop")
    assert made.column_mapping == {"key": "customer", "date": "day"}
    assert made.schema_json == {
        "type": "object",
        "properties": {
            "customer": {"type": "string"},
            "day": {"type": "string", "format": "date"},
            "sum": {"type": "number"},
        },
        "required": ["customer", "day", "sum"],
    }
    assert "The dataset has no records yet" in page(as_admin.get(response.headers["Location"]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "it's mine"}, "Use 1 to 63 letters, digits or underscores"),
        ({"name": "taken"}, "TAKEN exists already"),
        ({"name": ""}, "Write an id"),
        ({"title": "x" * 201}, "at most 200 characters"),
        ({"p2_role": "key"}, "There are two properties as key."),
        ({"p2_name": "customer"}, "There are two properties customer."),
        ({"p1_type": "boolean"}, "a property of type date or integer or number or string"),
        ({"p1_role": "", "p3_role": "subkey"}, "a key as well"),
        ({"p3_name": "_system_x"}, "names that do not begin with _system"),
        ({"p3_name": "a\0b"}, "names without NUL"),
        ({"p3_name": "x" * 300}, "names of 1 to 255 characters"),
        ({"p1_name": "", "p2_name": "", "p3_name": ""}, "The dataset has no property yet."),
    ],
)
def test_what_cannot_be_is_refused_and_kept_in_the_form(
    as_admin: Client, workspace: Workspace, changes: dict[str, str], said: str
) -> None:
    DatasetFactory(workspace=workspace, name="TAKEN")

    response = define(as_admin, **changes)

    assert response.status_code == 422
    assert said in page(response) and changes.get("title", "Orders of the shop") in page(response)
    assert Dataset.objects.count() == 1


def test_the_plan_bounds_the_number_of_datasets(as_admin: Client, workspace: Workspace) -> None:
    workspace.plan = "launch"
    workspace.save()
    DatasetFactory.create_batch(20, workspace=workspace)

    assert "has room for" in page(define(as_admin))
    assert not Dataset.objects.filter(name="ORDERS").exists()


def test_more_properties_keep_what_was_typed_and_check_nothing(as_admin: Client) -> None:
    response = define(as_admin, name="it's mine", more="1")

    assert response.status_code == 200
    assert page(response).count("<fieldset") == len(response.context["rows"]) == 8
    assert 'value="customer"' in page(response) and 'value="it&#x27;s mine"' in page(response)
    assert 'name="p5-name" value="" maxlength="255" autocomplete="off" autocapitalize="none" ' \
        'spellcheck="false" autofocus' in page(response)  # fmt: skip
    assert page(define(as_admin, HTMX, more="1")).startswith("<form")


def test_no_number_of_rows_breaks_the_form() -> None:
    for sent, count in (("", 4), ("-1", 4), ("0", 1), ("²", 4), ("9999", 4), ("999", 200)):
        assert len(define_page.rows_of({"rows": sent})) == count
    assert len(define_page.rows_of({"rows": "198"}, more=True)) == define_page.ROWS_MAX


def test_htmx_is_sent_on_and_gets_the_form_alone_with_its_errors(as_admin: Client) -> None:
    assert page(define(as_admin, HTMX, p2_role="key")).startswith("<form")
    assert define(as_admin, HTMX).headers["HX-Redirect"] == reverse("datasets:detail", args=["ORDERS"])


def test_only_admins_define_datasets(as_teammate: Client, outsider: User, client: Client) -> None:
    assert as_teammate.get(reverse("datasets:define")).status_code == 403
    assert define(as_teammate).status_code == 403
    assert define(client).status_code == 302
    assert not Dataset.objects.exists()
