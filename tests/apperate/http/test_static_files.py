"""Styles and scripts as production serves them: under hashed names, all of them found, and little to load."""

import gzip
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.test import Client

from apperate import settings as of_product
from apperate.accounts.models import Workspace
from apperate.http.static_files import JOINED, STYLES
from tests.support.factories import DatasetFactory

STATIC = Path(of_product.BASE_DIR) / "static"
LINKED = re.compile(r"""(?:href|src)="(/static/[^"#]+)""")
NAMED = re.compile(r"""(?:from|import) "(\./[^"]+)"|url\("([^"]+)"\)""")
HASHED = re.compile(r"\.[0-9a-f]{12}(?=\.\w+$)")
FIRST_PAGE_BYTES_MAX = 60_000  # styles and scripts, compressed


@pytest.fixture
def collected(settings: LazySettings, tmp_path: Path) -> None:
    """The files as `manage.py up` collects them; the admin's are many and no page of ours asks for them."""
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = of_product.STORAGES
    settings.WHITENOISE_AUTOREFRESH = False
    call_command("collectstatic", interactive=False, verbosity=0, ignore_patterns=["admin/*"])


def asked_for(client: Client, page: str) -> Iterator[tuple[str, bytes]]:
    """Every static file that a browser asks for on a page: those it links, and those that they name."""
    waiting, seen = LINKED.findall(client.get(page).content.decode()), set()
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert "immutable" in answer.headers["Cache-Control"], f"{address} has no hashed name"
        body = answer.getvalue()
        yield address, body
        if address.endswith((".css", ".js")):
            names = ["".join(found) for found in NAMED.findall(body.decode())]
            waiting += [urljoin(address, name) for name in names]


def plain(address: str) -> str:
    return posixpath.relpath(HASHED.sub("", address), "/static")


@pytest.mark.django_db
@pytest.mark.usefixtures("collected")
def test_every_style_and_script_is_served_under_a_hashed_name(
    workspace: Workspace, as_owner: Client, settings: LazySettings
) -> None:
    DatasetFactory(workspace=workspace, name="CARS")
    ours = {f"{kind}/{path.name}" for kind in ("css", "js") for path in (STATIC / kind).iterdir()}

    asked = {plain(address) for address, _ in asked_for(as_owner, "/datasets/CARS/docs/")}

    joined = (settings.STATIC_ROOT / JOINED).read_text()
    styles = {f"css/{path.name}": path.read_text() for path in (STATIC / "css").iterdir()}
    assert ours - asked == styles.keys() == set(STYLES), "no page asks for these"
    assert joined == "\n".join(styles[name] for name in STYLES)
    assert {"vendor/public-sans.woff2", "vendor/jetbrains-mono.woff2", "vendor/icons.svg"} <= asked


@pytest.mark.django_db
@pytest.mark.usefixtures("collected")
def test_the_first_page_has_little_to_load(client: Client) -> None:
    files = [body for name, body in asked_for(client, "/account/login/") if name.endswith((".css", ".js"))]

    assert sum(len(gzip.compress(body)) for body in files) <= FIRST_PAGE_BYTES_MAX


def test_the_layers_are_put_in_order_before_any_is_filled() -> None:
    """A layer takes its place where it is first named, whatever the order of the files after that."""
    assert STYLES[0] == "css/theme.css" and "@layer tokens, base," in (STATIC / STYLES[0]).read_text()
    assert len(STYLES) == len(set(STYLES))


@pytest.mark.django_db
def test_while_working_each_style_sheet_is_linked_as_it_is(client: Client) -> None:
    page = client.get("/account/login/").content.decode()

    assert [name for name in LINKED.findall(page) if name.endswith(".css")] == [
        f"/static/{name}" for name in STYLES
    ]
