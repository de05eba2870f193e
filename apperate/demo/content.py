"""The demo's datasets: three of its own, one in CORE and one in PREMIUM, from the files in demo/."""

import csv
import gzip
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.db import transaction

from apperate.accounts.models import CORE, PREMIUM, User, Workspace
from apperate.kernel.refusals import Refusal
from datasets.files.inference import infer_file
from datasets.jobs.loading import load_file, plain_file
from datasets.jobs.run import sentence
from datasets.models import Dataset, IngestJob
from datasets.records.schema import Schema
from datasets.services import creating
from datasets.storage import job_files, writes

WORKSPACE = "DEMO"
FOLDER = settings.BASE_DIR / "demo"
# The demo's datasets have a source that begins with this; others of the same name are left alone.
MARK = "Demo data. "
PRICES = {
    "Ticker": "Symbol of the share",
    "Date": "Trading day",
    "Open": "First price of the day",
    "High": "Highest price of the day",
    "Low": "Lowest price of the day",
    "Close": "Last price of the day",
    "Volume": "Shares traded",
    "Adj Close": "Last price, adjusted for splits and dividends",
}


@dataclass(frozen=True, slots=True)
class Content:
    """One dataset of the demo; `descriptions`: property → its meaning."""

    workspace: str
    name: str
    file: str
    title: str
    description: str
    source: str
    descriptions: Mapping[str, str]


CONTENTS = (
    Content(
        CORE,
        "HISTORICAL_PRICES",
        "stocks.csv.gz",
        "Historical prices",
        "Daily prices of AAPL, FB, GOOG, IBM and MSFT from 2000 to 2013. Each record costs a credit.",
        "Public domain, from bokeh_sampledata.",
        PRICES,
    ),
    Content(
        PREMIUM,
        "MONTHLY_RETURNS",
        "monthly_returns.csv",
        "Monthly returns",
        "Returns of AAPL, FB, GOOG, IBM and MSFT by month, with dividends. Each record costs a credit.",
        "Computed from the historical prices.",
        {
            "ticker": "Symbol of the share",
            "day": "Last trading day of the month",
            "close": "Last price of the month",
            "return_percent": "Change of the adjusted price since the month before, in percent",
        },
    ),
    Content(
        WORKSPACE,
        "STOCKS",
        "stocks.csv.gz",
        "Stock prices",
        "Daily prices of AAPL, FB, GOOG, IBM and MSFT from 2000 to 2013.",
        "Public domain, from bokeh_sampledata.",
        PRICES,
    ),
    Content(
        WORKSPACE,
        "WEATHER",
        "lincoln_weather.csv",
        "Weather in Lincoln",
        "Daily temperatures of one station in Nebraska, 2016.",
        "Public domain, NOAA, from bokeh_sampledata.",
        {
            "STATION": "Identifier of the station",
            "NAME": "Name of the station",
            "DATE": "Day of the measurement",
            "TMAX": "Highest temperature, in °F",
            "TMIN": "Lowest temperature, in °F",
        },
    ),
    Content(
        WORKSPACE,
        "CARS",
        "cars.json",
        "Cars",
        "Car models from 1970 to 1982, with gaps in the data.",
        "BSD licence, from vega_datasets.",
        {"Name": "Make and model", "Origin": "Where it was made", "Year": "Model year"},
    ),
)
NAMES = tuple(content.name for content in CONTENTS if content.workspace == WORKSPACE)
CORE_NAMES = tuple(content.name for content in CONTENTS if content.workspace == CORE)


class DemoFault(Exception):
    """Why the demo cannot be made, as a sentence for the operator."""


def make_datasets(workspace: Workspace, *, by: User, now: datetime) -> dict[tuple[str, str], Dataset]:
    """Make the missing datasets; all of them by (workspace, name). Raises DemoFault."""
    found = {}
    for content in CONTENTS:
        home = workspace if content.workspace == WORKSPACE else creating.system_workspace(content.workspace)
        dataset = home.datasets.kept().filter(name=content.name).first()
        found[content.workspace, content.name] = dataset or _load(home, content, by=by, now=now)
    return found


def _load(home: Workspace, content: Content, *, by: User, now: datetime) -> Dataset:
    details = {
        "title": content.title,
        "description": content.description,
        "source": MARK + content.source,
    }
    with _file_of(content) as path:
        schema = _described(inferred(path), content.descriptions)
        loaded = load_file(
            workspace=home, name=content.name, path=path, now=now, by=by, schema=schema, details=details
        )
    if isinstance(loaded, Refusal):
        raise DemoFault(f"{home.name}.{content.name} cannot be made. {sentence(loaded)}")
    return loaded.dataset


@lru_cache(maxsize=8)
def inferred(path: Path) -> Schema:
    """A file's inferred schema; CORE and DEMO share one."""
    with plain_file(path) as plain:
        schema = plain if isinstance(plain, Refusal) else infer_file(plain)
    if isinstance(schema, Refusal):
        raise DemoFault(f"{path.name} cannot be read. {sentence(schema)}")
    return schema


def _described(schema: Schema, descriptions: Mapping[str, str]) -> Schema:
    """The inferred schema with property descriptions."""
    properties = tuple(
        replace(found, description=descriptions.get(found.name, "")) for found in schema.properties
    )
    return Schema(properties, schema.key, schema.subkey, schema.date)


@contextmanager
def _file_of(content: Content) -> Iterator[Path]:
    """The dataset's file; that of the monthly returns is computed."""
    if content.workspace != PREMIUM:
        yield FOLDER / content.file
        return
    with tempfile.TemporaryDirectory(prefix="apperate-demo-") as folder:
        path = Path(folder) / content.file
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["ticker", "day", "close", "return_percent"])
            writer.writerows(monthly_returns(FOLDER / "stocks.csv.gz"))
        yield path


def monthly_returns(prices: Path) -> Iterator[tuple[str, str, str, str]]:
    """(ticker, last trading day, close, return in percent) by month; a ticker's first month has none."""
    last_of_month: dict[tuple[str, str], dict[str, str]] = {}
    with gzip.open(prices, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            last_of_month[row["Ticker"], row["Date"][:7]] = row  # The file is sorted by date.
    before: dict[str, float] = {}
    for (ticker, _), row in last_of_month.items():
        price = float(row["Adj Close"])
        change = f"{(price / before[ticker] - 1) * 100:.2f}" if ticker in before else ""
        before[ticker] = price
        yield ticker, row["Date"], row["Close"], change


def remove_datasets(workspace: Workspace) -> None:
    """Remove every dataset of the demo's workspace, and those the demo made in CORE and PREMIUM."""
    ours = list(workspace.datasets.all())
    for content in CONTENTS:
        if content.workspace != WORKSPACE:
            ours += Dataset.objects.filter(
                workspace__name=content.workspace, name=content.name, source__startswith=MARK
            )
    ids = [dataset.pk for dataset in ours]
    files = [job_files.kept(job) for job in IngestJob.objects.filter(dataset__in=ids)]
    writes.erase(ids)
    Dataset.objects.filter(pk__in=ids).delete()
    for kept in files:
        transaction.on_commit(kept.remove)
