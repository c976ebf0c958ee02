"""The ML-BOM: valid by CycloneDX's own schema, the same to the byte, and with every number and digest of the attestation."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from audit.private.withholding import make_private
from bundle.bundle import Bundle, open_bundle
from bundle.layout import BOM, CARD, IMAGES, OUTCOMES, REPORT
from bundle.pages.bom import render_bom
from bundle.pages.performance import performance_metrics
from bundle.table.threats import Threat
from tests.bundle.pages.test_card import proved
from tests.bundles import make_bundle

PAGES = (CARD, REPORT)
EXTRA = {"file_sha256": "ab" * 32, "images": 1000, "per_class": [100] * 10, "share": 0.7}
ENVIRONMENT = {
    "python": "3.12.1",
    "packages": {"torch": "2.13.0+cpu", "Pillow_SIMD": "9.0"},
    "lock_sha256": "cd" * 32,
    "installed": [
        {"name": "rich", "version": "15.0.0", "sha256": ["01" * 32, "23" * 32]},
        {"name": "torch", "version": "2.13.0+cpu"},
    ],
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_bundle(tmp_path_factory.mktemp("bundle"), eps=(32,), others=(Threat("l2", 0.5),)))


def refusals(document: dict[str, Any]) -> list[str]:
    """What CycloneDX's own validator says against a document: the places and the reasons."""
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document), all_errors=True)
    return [f"{error.data.json_path}: {error.data.message}" for error in found or ()]


def bom(bundle: Bundle, **changes: Any) -> dict[str, Any]:
    return json.loads(render_bom({**bundle.predicate, **changes}, bundle.digest))


def model(document: dict[str, Any]) -> dict[str, Any]:
    (found,) = [item for item in document["components"] if item["type"] == "machine-learning-model"]
    return found


def metrics(document: dict[str, Any]) -> list[dict[str, Any]]:
    return model(document)["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]


def test_the_validator_refuses(bundle: Bundle) -> None:
    """One that lets everything pass would prove nothing."""
    wrong = bom(bundle)
    model(wrong)["hashes"][0]["content"] = "none"
    model(wrong)["licenses"] = [{"license": {"id": "no such licence"}}]
    metrics(wrong)[0]["value"] = 0.5
    places = " ".join(refusals(wrong))
    assert all(place in places for place in ("hashes[0].content", "licenses", "performanceMetrics[0].value"))


@pytest.mark.parametrize("changes", ["standard", "everything", "quick"])
def test_bom_is_valid(bundle: Bundle, tmp_path: Path, changes: str) -> None:
    found = bom(bundle)
    if changes == "everything":
        data = {**bundle.predicate["data"], "extra": EXTRA}
        found = bom(bundle, **proved(bundle), data=data, environment=ENVIRONMENT, reliable=False)
    elif changes == "quick":
        found = bom(open_bundle(make_bundle(tmp_path / "quick", tier="quick", eps=(32,))))
    assert refusals(found) == []
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)


def test_bytes_follow_from_the_attestation_alone(bundle: Bundle, tmp_path: Path) -> None:
    again = open_bundle(make_bundle(tmp_path / "again", eps=(32,), others=(Threat("l2", 0.5),)))
    assert render_bom(again.predicate, again.digest) == render_bom(bundle.predicate, bundle.digest)
    found, other = bom(bundle), bom(bundle, tier="thorough")
    assert "timestamp" not in found["metadata"]
    assert uuid.UUID(found["serialNumber"]).version == 5
    assert found["serialNumber"] != other["serialNumber"]


def test_it_lies_in_the_bundle_as_the_attestation_gives_it(bundle: Bundle) -> None:
    """It names neither itself nor the pages that are made after it, so it is the same whenever it is made."""
    assert (bundle.path / BOM).read_bytes() == render_bom(bundle.predicate, bundle.digest)
    assert {item["name"] for item in bundle.predicate["files"]} >= {BOM, *PAGES}
    bare = [item for item in bundle.predicate["files"] if item["name"] not in {BOM, *PAGES}]
    assert bom(bundle, files=bare) == bom(bundle)


def test_a_private_bundle_names_no_images(bundle: Bundle, tmp_path: Path) -> None:
    private = make_private(bundle.path, tmp_path / "private", tmp_path / "owned", bytes(32))
    names = [item["name"] for item in json.loads((private.path / BOM).read_bytes())["components"]]
    assert OUTCOMES in names and IMAGES not in names


def test_every_digest_is_there(bundle: Bundle) -> None:
    data = {**bundle.predicate["data"], "extra": EXTRA}
    found = {item["name"]: item["hashes"] for item in bom(bundle, data=data)["components"] if "hashes" in item}
    expected = {item["name"]: item["sha256"] for item in bundle.predicate["files"] if "." in item["name"]}
    expected = {name: digest for name, digest in expected.items() if name not in {BOM, *PAGES}}
    expected |= {f"digits {name}": split["sha256"] for name, split in data["splits"].items()}
    expected |= {"d2r_cag-digits": bundle.digest, "digits extra": EXTRA["file_sha256"]}
    expected["requirements.lock"] = bundle.predicate["environment"]["lock_sha256"]
    assert {name: hashes[0]["content"] for name, hashes in found.items()} == expected
    assert all(hashes[0]["alg"] == "SHA-256" for hashes in found.values())


def test_every_reference_points_at_something(bundle: Bundle) -> None:
    found = bom(bundle, environment=ENVIRONMENT)
    known = {"bundle", *(item["bom-ref"] for item in found["components"])}
    assert len(known) == 1 + len(found["components"])
    assert {item["ref"] for item in found["dependencies"]} == known
    assert {ref for item in found["dependencies"] for ref in item.get("dependsOn", ())} == known - {"bundle"}
    assert {item["ref"] for item in model(found)["modelCard"]["modelParameters"]["datasets"]} < known


def test_the_environment_is_listed_with_the_locks_digests(bundle: Bundle) -> None:
    found = bom(bundle, environment=ENVIRONMENT)["components"]
    outside = {item["bom-ref"]: item for item in found if item.get("scope") == "excluded"}
    assert list(outside) == ["python", "lock", "package:Pillow_SIMD", "package:rich", "package:torch"]
    assert (outside["python"]["version"], outside["lock"]["hashes"][0]["content"]) == ("3.12.1", "cd" * 32)
    purls = [item["purl"] for item in outside.values() if item["type"] == "library"]
    assert purls == ["pkg:pypi/pillow-simd@9.0", "pkg:pypi/rich@15.0.0", "pkg:pypi/torch@2.13.0%2Bcpu"]
    (files,) = outside["package:rich"]["externalReferences"]
    assert [item["content"] for item in files["hashes"]] == ["01" * 32, "23" * 32]
    assert "externalReferences" not in outside["package:torch"]


def test_an_attestation_of_before_lists_what_it_knows(bundle: Bundle) -> None:
    found = bom(bundle, environment={"packages": ENVIRONMENT["packages"], "lock_sha256": None})
    names = [item["name"] for item in found["components"] if item.get("scope") == "excluded"]
    assert names == ["Pillow_SIMD", "torch"] and refusals(found) == []
    assert refusals(bom(bundle, environment={})) == []


def test_every_number_is_a_metric_with_its_slice(bundle: Bundle) -> None:
    predicate, found = bundle.predicate, metrics(bom(bundle))
    lists = ("claims", "bounds", "worstClass", "perClass", "calibration", "corruptionAccuracy", "minimumDistances")
    assert len(found) == sum(len(predicate[name]) for name in lists)
    keys = [(item["type"], item["slice"]) for item in found]
    assert len(set(keys)) == len(keys)
    for claim, item in zip(predicate["claims"], found, strict=False):
        assert item["type"] == claim["metric"] and float(item["value"]) == pytest.approx(claim["value"], abs=1e-6)
        ends = [float(item["confidenceInterval"][end]) for end in ("lowerBound", "upperBound")]
        assert ends == pytest.approx(claim["interval"], abs=1e-6)
        assert item["slice"].startswith(claim["setting"])
        assert item["slice"].endswith(f"{claim['correct']} of {claim['sampleSize']} images")
        assert ("upper bound" in item["slice"]) == (claim["metric"] == "robust_accuracy")
    bounds = [item["slice"] for item in found if item["type"] == "certified_accuracy"]
    assert all("lower bound" in item for item in bounds)
    assert {item.split(",")[0] for item in bounds} == {"classifier smoothed-0.25", "classifier served"}


def test_a_proof_names_its_classifier_and_technique(bundle: Bundle) -> None:
    (found,) = [
        item
        for item in performance_metrics({**bundle.predicate, **proved(bundle)})
        if "classifier served" in item["slice"]
    ]
    assert found["slice"] == "classifier served, linf 4/255, IBP, lower bound, interval 95.0 %, 15 of 60 images"


def test_a_distance_that_was_not_found_is_no_number(bundle: Bundle) -> None:
    (item,) = bundle.predicate["minimumDistances"]
    missing = [{**item, "quantiles": {**item["quantiles"], "50": None}}]
    assert "median_minimum_distance" in {metric["type"] for metric in metrics(bom(bundle))}
    assert "median_minimum_distance" not in {
        metric["type"] for metric in metrics(bom(bundle, minimumDistances=missing))
    }


def test_what_limits_the_numbers_is_said(bundle: Bundle) -> None:
    sanity = [{**bundle.predicate["sanity"][0], "passed": False, "outcome": "fail"}]
    found = model(bom(bundle, sanity=sanity, reliable=False))["modelCard"]
    limits = found["considerations"]["technicalLimitations"]
    assert any("large_eps" in item and "failed" in item for item in limits)
    assert {f"Not tested: {item}" for item in bundle.predicate["notTested"]} <= set(limits)
    properties = {item["name"]: item["value"] for item in found["properties"]}
    assert (properties["hallmark:reliable"], properties["hallmark:tier"]) == ("false", "standard")
    assert properties["hallmark:parameters.attack.tier"] == "standard"
