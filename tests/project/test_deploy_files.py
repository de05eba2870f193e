"""The files of deploy/: settings, paths and figures that they name are there, and docs tell of each."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from apperate.observability import metrics
from apperate.running import exposition, sampling
from tests.support.installation import ROOT

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "apperate.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
FILES = sorted(path for path in (ROOT / "deploy").rglob("*") if path.is_file())
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
HOW_TO = OPERATING + (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
# What the container's Dockerfile copies by name.
COPIED = re.compile(r"^COPY ((?:[\w.-]+ )+)\./$", re.MULTILINE)
# What Prometheus adds itself.
ADDED = {"instance", "job"}


def families() -> Iterator[Metric]:
    assert sampling.WORKERS  # Its figures are in the registry too.
    yield from metrics.REGISTRY.collect()
    yield from exposition.Installation().collect()


def labels() -> dict[str, set[str]]:
    """The names as they are asked for, each with its labels."""
    found: dict[str, set[str]] = {}
    of_counters = {metric._name: set(metric._labelnames) for metric in metrics.REGISTRY._collector_to_names}
    for family in families():
        names = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        its = of_counters.get(family.name) or {name for one in family.samples for name in one.labels}
        for suffix in names:
            found[family.name + suffix] = its | ADDED | ({"le"} if suffix == "_bucket" else set())
    return found


@pytest.mark.django_db
@pytest.mark.parametrize("expression", [*QUERIES, *(rule["expr"] for rule in RULES)])
def test_every_figure_that_is_asked_for_is_there(expression: str) -> None:
    known = labels()
    # `up` is Prometheus's own.
    asked = set(re.findall(r"\bapperate_\w+", expression))

    assert asked or expression.startswith("up{")
    assert asked <= known.keys()
    for name, matchers in re.findall(r"\b(apperate_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)=", matchers)) <= known[name]


@pytest.mark.django_db
def test_every_figure_is_on_the_dashboard_or_in_an_alert_and_is_described() -> None:
    everything = " ".join([*QUERIES, *(rule["expr"] for rule in RULES)])
    for family in families():
        assert re.search(rf"\b{family.name}(_total|_bucket)?\b", everything), family.name
        assert family.documentation.endswith(".")
        assert f"`{family.name}" in OPERATING, f"docs/operating.md does not name {family.name}"


def test_every_alert_says_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 10
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"].endswith(".") and rule["annotations"]["description"]


def test_the_panels_of_the_dashboard_do_not_lie_on_each_other() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"\b(?:APPERATE|DATABASE|EMAIL)_[A-Z_]+\b", path.read_text()))

    assert {name for name in named if f"| `{name}` |" not in SETTINGS} == set()


def test_what_is_copied_into_the_container_is_there() -> None:
    (names,) = COPIED.findall((ROOT / "deploy" / "Dockerfile").read_text())

    assert [name for name in names.split() if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_how_to_use_it_is_said(path: Path) -> None:
    place = path.relative_to(ROOT)

    assert any(str(folder) in HOW_TO for folder in (place.with_suffix(""), *place.parents[:-2]))


def test_every_path_of_deploy_that_is_said_exists() -> None:
    said = set(re.findall(r"\bdeploy/[\w./-]*\w", HOW_TO)) - {"deploy/compose/.env"}

    assert [path for path in sorted(said) if not (ROOT / path).exists()] == []
