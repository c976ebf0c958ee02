"""The Kubernetes example of docs/deployment.md, held against the service that it deploys."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from bundle.gate.reading import read_policy
from serving.output.openapi import document
from serving.settings import PREFIX, Settings, read_settings
from tests.serving.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/deployment.md").read_text()
OBJECTS: dict[str, dict[str, Any]] = {
    item["kind"]: item
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for item in yaml.safe_load_all(block)
}
API = {
    "ConfigMap": "v1",
    "Secret": "v1",
    "Deployment": "apps/v1",
    "Service": "v1",
    "PodDisruptionBudget": "policy/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "ServiceMonitor": "monitoring.coreos.com/v1",
}
SPEC = OBJECTS["Deployment"]["spec"]
POD = SPEC["template"]["spec"]
CONTAINER = POD["containers"][0]
ENVIRONMENT = {item["name"]: item for item in CONTAINER["env"]}


def test_every_object_says_what_it_is() -> None:
    assert {kind: item["apiVersion"] for kind, item in OBJECTS.items()} == API
    assert all(item["metadata"]["name"].startswith("hallmark") for item in OBJECTS.values())


#: A Kubernetes of some releases ago, and the newest that the package knows.
KUBERNETES = ("1.34", "1.37")
MONITOR = json.loads((Path(__file__).parent / "monitoring" / "servicemonitor-v1.schema.json").read_text())


def _validate(item: dict[str, Any], version: str) -> None:
    """Raises jsonschema.ValidationError where an object is not what its API has, unknown fields included."""
    if item["kind"] == "ServiceMonitor":
        jsonschema.Draft202012Validator(MONITOR).validate(item)
    else:
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("kind", API)
def test_every_object_is_valid_for_its_api(kind: str, version: str) -> None:
    _validate(OBJECTS[kind], version)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "containers", 0, "readinesProbe"), {}),
        ("Deployment", ("spec", "template", "spec", "enableServiceLinks"), "no"),
        ("Service", ("spec", "ports", 0, "port"), "http"),
        ("HorizontalPodAutoscaler", ("spec", "metrics", 0, "resource", "target", "averageUtilization"), "70 %"),
        ("PodDisruptionBudget", ("spec", "minAvailible"), 1),
        ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), "half a minute"),
        ("ServiceMonitor", ("spec", "endpoints", 0, "authorisation"), {}),
    ],
)
def test_the_validation_finds_what_is_wrong(kind: str, path: tuple[Any, ...], value: Any) -> None:
    item = copy.deepcopy(OBJECTS[kind])
    *parents, last = path
    place: Any = item
    for step in parents:
        place = place[step]
    place[last] = value
    with pytest.raises(jsonschema.ValidationError):
        _validate(item, KUBERNETES[-1])


def test_everything_selects_the_same_pods() -> None:
    labels = SPEC["template"]["metadata"]["labels"]
    assert SPEC["selector"]["matchLabels"] == labels == OBJECTS["Service"]["spec"]["selector"]
    assert OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == OBJECTS["Service"]["metadata"]["labels"]
    target = OBJECTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": OBJECTS["Deployment"]["metadata"]["name"]}


def test_the_ports_are_those_of_the_image() -> None:
    """test_bento.py has that the image answers on 3000."""
    assert CONTAINER["ports"] == [{"name": "http", "containerPort": 3000}]
    port = OBJECTS["Service"]["spec"]["ports"][0]
    assert port["targetPort"] == "http" == OBJECTS["ServiceMonitor"]["spec"]["endpoints"][0]["port"] == port["name"]
    probes = [CONTAINER[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert [probe["port"] for probe in probes] == ["http"] * 3


def test_the_paths_are_routes_of_the_service() -> None:
    paths = document()["paths"]
    assert CONTAINER["startupProbe"]["httpGet"]["path"] == CONTAINER["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert {"/readyz", "/livez", OBJECTS["ServiceMonitor"]["spec"]["endpoints"][0]["path"]} <= set(paths)


def test_the_variables_are_settings_and_their_values_are_taken() -> None:
    given = {name: item.get("value", "x" * 64) for name, item in ENVIRONMENT.items() if name.startswith(PREFIX)}
    assert set(given) <= {PREFIX + item.name.upper() for item in fields(Settings)}
    settings = read_settings(given)
    assert settings.require_signature == "yes" and settings.threads == 0
    assert "value" not in ENVIRONMENT["HALLMARK_TOKEN"]


def test_a_pod_is_not_told_of_services_in_variables_that_look_like_settings() -> None:
    """BENTOML_PORT, too, is what Kubernetes would call the address of a service called bentoml."""
    assert POD["enableServiceLinks"] is False


def test_what_is_mounted_and_referred_to_is_there() -> None:
    volumes = {item["name"]: item for item in POD["volumes"]}
    mounts = {item["name"]: item["mountPath"] for item in CONTAINER["volumeMounts"]}
    assert set(mounts) == set(volumes)
    assert volumes["trust"]["configMap"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]
    for name in ("HALLMARK_TRUST", "HALLMARK_POLICY"):
        folder, _, file = ENVIRONMENT[name]["value"].rpartition("/")
        assert folder == mounts["trust"] and file in OBJECTS["ConfigMap"]["data"]
    secret = OBJECTS["Secret"]
    endpoint = OBJECTS["ServiceMonitor"]["spec"]["endpoints"][0]
    for reference in (
        ENVIRONMENT["HALLMARK_TOKEN"]["valueFrom"]["secretKeyRef"],
        endpoint["authorization"]["credentials"],
    ):
        assert reference["name"] == secret["metadata"]["name"] and reference["key"] in secret["stringData"]


def test_a_pod_has_no_rights_and_writes_only_where_it_may() -> None:
    assert POD["securityContext"]["runAsNonRoot"] and POD["securityContext"]["runAsUser"] == 1034
    context = CONTAINER["securityContext"]
    assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    mounts = {item["mountPath"]: item for item in CONTAINER["volumeMounts"]}
    assert ENVIRONMENT["HOME"]["value"] == ENVIRONMENT["BENTOML_HOME"]["value"] == "/tmp" and "/tmp" in mounts
    assert {item["name"] for item in POD["volumes"] if "emptyDir" in item} == {mounts["/tmp"]["name"]}


def test_a_roll_out_leaves_time_for_the_requests_that_are_under_way() -> None:
    assert SPEC["replicas"] >= 2 and SPEC["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    sleep = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] > sleep + 3 * Settings().seconds
    assert OBJECTS["PodDisruptionBudget"]["spec"]["minAvailable"] < SPEC["replicas"]


@pytest.mark.parametrize("kind", ["requests", "limits"])
def test_resources_are_said(kind: str) -> None:
    assert set(CONTAINER["resources"][kind]) == {"cpu", "memory"}


def test_the_policy_of_the_example_is_one(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(OBJECTS["ConfigMap"]["data"]["policy.yaml"])
    assert read_policy(path).metrics
