"""deploy/compose.yaml without a daemon: files that are there, and a dashboard of series that the service really has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from bundle.bundle import open_bundle
from serving.metrics import Metrics, publish_host, publish_model
from serving.output.openapi import document
from tests.bundles import make_bundle
from tests.serving.conftest import REPOSITORY

FOLDER = REPOSITORY / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana/dashboards/hallmark.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def mounts(service: str) -> dict[str, Path]:
    """Of a service, the folder or file of this repository at each mounted path."""
    named = (item.split(":") for item in SERVICES[service]["volumes"])
    return {inside: FOLDER / outside for outside, inside, *_ in named if outside.startswith(".")}


def test_what_is_mounted_is_there_and_read_only() -> None:
    found = {path for service in ("prometheus", "grafana") for path in mounts(service).values()}
    assert {path.resolve().relative_to(FOLDER).as_posix() for path in found if path.exists()} == {
        "prometheus.yaml",
        "grafana/provisioning",
        "grafana/dashboards",
    }
    assert all(item.endswith(":ro") for name in ("prometheus", "grafana") for item in SERVICES[name]["volumes"][:1])


def test_named_volumes_are_declared_and_images_are_of_one_version() -> None:
    named = {
        item.split(":")[0] for service in SERVICES.values() for item in service.get("volumes", []) if item[0] != "."
    }
    assert named == set(COMPOSE["volumes"])
    for service in ("prometheus", "grafana"):
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", SERVICES[service]["image"])


def test_ports_are_for_this_machine_alone_and_each_is_another() -> None:
    ports = [port for service in SERVICES.values() for port in service["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports) == 3


def test_prometheus_asks_the_service_where_it_answers() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    ((host, port),) = (target.split(":") for item in job["static_configs"] for target in item["targets"])
    assert SERVICES[host]["ports"] == [f"127.0.0.1:3000:{port}"]
    assert job["metrics_path"] in document()["paths"]


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    inside = mounts("grafana")
    provisioning = inside["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/hallmark.yaml").read_text())["providers"]
    host = re.fullmatch(r"http://([a-z]+):9090", source["url"])
    assert host and host[1] in SERVICES
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    assert (inside[provider["options"]["path"]] / home.name).is_file()
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert used == {source["uid"]}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Labels by the name of every series of a service that answered once."""
    bundle = open_bundle(make_bundle(tmp_path_factory.mktemp("compose") / "bundle"))
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    publish_model(bundle.predicate, bundle.digest, registry)
    publish_host(bundle.version, {"provider": "cpu", "threads": 1, "rows": 64, "moved": 0}, registry)
    metrics.observe(3, 0.01)
    metrics._requests.labels("/predict", "POST", "200").observe(0.02)
    metrics._refusals.labels("busy").inc()
    metrics._predictions.labels("7").inc()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text(0).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_panels_series_and_labels_exist(expression: str, series: dict[str, set[str]]) -> None:
    names = set(re.findall(r"hallmark_\w+", expression))
    assert names and names <= set(series)
    asked = re.findall(r"(\w+)=~?\"", expression) + [
        label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", group)
    ]
    assert set(asked) <= set.union(*(series[name] for name in names))


def test_every_series_of_the_service_is_on_the_dashboard_or_behind_one(series: dict[str, set[str]]) -> None:
    """By setting and attack, and how many rows the self-check has, are for queries by hand."""
    shown = {name for expression in EXPRESSIONS for name in re.findall(r"hallmark_\w+", expression)}
    stems = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    left = {name for name in series if re.sub(r"_(bucket|count|sum)$", "", name) not in stems}
    assert left == {"hallmark_robust_accuracy", "hallmark_self_check_rows"}


def test_panels_do_not_lie_on_each_other() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
