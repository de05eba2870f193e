"""`manage.py load` fills a dataset from the shell, making it when needed, and explains what is wrong."""

import gzip
from io import StringIO
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from apperate.accounts.models import Workspace
from datasets.models import Dataset, IngestJob
from datasets.storage import writes
from tests.support.factories import DatasetFactory

pytestmark = pytest.mark.django_db

CSV = "Ticker,Date,Close\nAAPL,2024-01-02,1.5\nAAPL,2024-01-03,2.5\nMSFT,2024-01-02,3.5\n"


@pytest.fixture(autouse=True)
def ingest_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.INGEST_DIR = tmp_path / "ingest"
    return tmp_path / "ingest"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    path.write_text(CSV)
    return path


def load(*arguments: object, **options: object) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("load", *map(str, arguments), stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def records(name: str) -> int:
    dataset = Dataset.objects.get(name=name)
    found = writes.sizes([dataset.pk]).get(dataset.pk)
    return found.records if found else 0


def test_a_missing_dataset_is_made_by_inference(workspace: Workspace, file: Path) -> None:
    said, _ = load("acme", "prices", file, title="Prices")

    dataset = workspace.datasets.get()
    assert (dataset.name, dataset.title) == ("PRICES", "Prices")
    assert dataset.column_mapping == {"key": "Ticker", "date": "Date"}
    assert "Made ACME.PRICES: 3 properties, key Ticker, subkey none, date Date." in said
    assert "ACME.PRICES: 3 records stored, 0 duplicates, 0 invalid lines" in said
    assert records("PRICES") == 3


@pytest.mark.parametrize("name", ["CORE", "premium"])
def test_system_workspaces_are_made_and_cost_a_credit_a_record(name: str, file: Path) -> None:
    load(name, "PRICES", file)

    workspace = Workspace.objects.get(name=name.upper())
    assert workspace.is_system
    assert workspace.datasets.get().credits_per_record == 1


def test_a_compressed_file_is_loaded(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode()))

    load("ACME", "PRICES", path)

    assert records("PRICES") == 3
    assert IngestJob.objects.get().file_name == "prices.csv.gz"


def test_loading_again_counts_duplicates_and_can_replace(workspace: Workspace, file: Path) -> None:
    load("ACME", "PRICES", file)

    again, _ = load("ACME", "PRICES", file)
    replaced, _ = load("ACME", "PRICES", file, replace=True, key="Ticker")

    assert "0 records stored, 3 duplicates" in again
    assert "3 records stored, 0 duplicates" in replaced


def test_the_index_can_be_chosen(workspace: Workspace, file: Path) -> None:
    said, _ = load("ACME", "PRICES", file, key="Close")

    assert workspace.datasets.get().column_mapping == {"key": "Close", "date": "Date"}
    assert "key Close, subkey none, date Date" in said


def test_invalid_lines_are_shown(workspace: Workspace, file: Path) -> None:
    load("ACME", "PRICES", file)
    file.write_text(CSV + "AAPL,never,1\n" * 7)

    said, faults = load("ACME", "PRICES", file)

    assert "7 invalid lines" in said
    assert 'line 5: "Date": received "never"' in faults
    assert "and 2 more invalid lines" in faults


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("NOPE", "PRICES"), "There is no workspace NOPE. Needed: one of ACME."),
        (("a'b", "PRICES"), "1 to 63 letters"),
        (("ACME", "a'b"), "1 to 63 letters"),
        (("ACME", "_system_x"), "not beginning with _system"),
        (("ACME", "NEW", "--key", "Nope"), "the name of a property"),
        (("ACME", "NEW", "--subkey", "Close", "--key", "Close"), "a different property for each"),
        (("ACME", "THERE"), "not properties of the dataset"),
        (("ACME", "THERE", "--key", "Close"), "has key=ticker already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_one_sentence_and_changes_nothing(
    workspace: Workspace, file: Path, ingest_dir: Path, arguments: tuple[str, ...], said: str
) -> None:
    DatasetFactory(workspace=workspace, name="THERE")
    place, options = arguments[:2], arguments[2:]

    with pytest.raises(CommandError) as error:
        load(*place, file, *options)

    assert said in str(error.value)
    assert Dataset.objects.count() == 1
    assert not IngestJob.objects.exists()
    assert not ingest_dir.exists() or list(ingest_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "cannot be read: No such file or directory."),
        (b"", "The file is empty."),
        (b"a,b\n", "no records"),
        (b"a,a\n1,2\n", "names columns twice"),
        (b"a\0", "NUL"),
        (gzip.compress(CSV.encode())[:40], "cut off or damaged"),
        (b'[{"a": "x"}, {"a": ]', "not valid JSON"),
    ],
    ids=["missing", "empty", "no rows", "twice", "nul", "cut", "broken"],
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    workspace: Workspace, tmp_path: Path, body: bytes | None, said: str
) -> None:
    path = tmp_path / "file"
    if body is not None:
        path.write_bytes(body)

    with pytest.raises(CommandError) as error:
        load("ACME", "NEW", path)

    assert said in str(error.value)
    assert not Dataset.objects.exists()
