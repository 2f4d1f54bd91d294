"""Tests the bills of materials of lock files and versions (faults, item 29)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sbom
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from typer.testing import CliRunner

from ferserve_training.cli import app
from ferserve_training.export.bill_of_materials import bill_of_materials_of

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
VERSIONS = sorted(path.parents[1] for path in (ROOT / "model_repo").glob("*/*/assets.extra/manifest.json"))
VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_the_bill_of_a_lock_names_every_pin(lock: Path) -> None:
    text = lock.read_text()
    document = JsonV1Dot6(sbom.bill_of(lock.stem, text)).output_as_string()
    assert VALIDATOR.validate_str(document) is None
    components = json.loads(document)["components"]
    pinned = [line.split(" ")[0] for line in text.splitlines() if line[:1].isalnum() and "==" in line]
    assert sorted(f"{each['name']}=={each['version']}" for each in components) == sorted(pinned)
    hashes = [found["content"] for each in components for found in each["externalReferences"][0]["hashes"]]
    assert len(hashes) == text.count("--hash=sha256:")


def test_a_lock_says_who_requires_what() -> None:
    line = f" \\\n    --hash=sha256:{'0' * 64}\n"
    text = f"a==1{line}    # via b\nb==2 ; sys_platform == 'win32'{line}"
    document = json.loads(JsonV1Dot6(sbom.bill_of("x", text)).output_as_string())
    found = {each["ref"]: each.get("dependsOn", []) for each in document["dependencies"]}
    assert found["pkg:pypi/b@2"] == ["pkg:pypi/a@1"]
    assert found["ferserve-x"] == ["pkg:pypi/b@2"]
    assert document["components"][1]["properties"][0]["value"] == "sys_platform == 'win32'"


@pytest.mark.parametrize("text", ["a>=1\n", "a==1 \\\n", "a==1 \\\n    --hash=md5:00\n"])
def test_a_lock_without_hashes_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"not understood|no hash"):
        sbom.read_lock(text)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_bill_of_a_version_says_what_its_manifest_says(version: Path) -> None:
    document = bill_of_materials_of(version)
    assert VALIDATOR.validate_str(json.dumps(document)) is None
    manifest = json.loads((version / "assets.extra" / "manifest.json").read_text())
    files = {each["name"] for each in document["components"] if each["type"] == "file"}
    assert files == {*manifest["files"], "assets.extra/manifest.json"}
    card = document["metadata"]["component"]["modelCard"]
    metrics = {each["type"]: each for each in card["quantitativeAnalysis"]["performanceMetrics"]}
    accuracy = metrics["public_test_accuracy"]
    assert float(accuracy["value"]) == manifest["metrics"]["public_test_accuracy"]
    assert (
        float(accuracy["confidenceInterval"]["lowerBound"]) == manifest["metrics"]["public_test_accuracy_low_95"]
    )
    assert bill_of_materials_of(version) == document  # no time of its own


def test_merged_and_quantized_versions_name_their_sources(tmp_path: Path) -> None:
    manifest = json.loads((VERSIONS[0] / "assets.extra" / "manifest.json").read_text())
    source = {"name": "net", "version": 7, "manifest_sha256": "0" * 64}
    path = tmp_path / "assets.extra" / "manifest.json"
    path.parent.mkdir()
    path.write_text(json.dumps(manifest | {"merged": [source], "quantized": source | {"name": "other"}}))
    document = bill_of_materials_of(tmp_path)
    assert VALIDATOR.validate_str(json.dumps(document)) is None
    assert {"net@7", "other@7"} <= set(document["dependencies"][0]["dependsOn"])


def test_the_command_prints_it_or_writes_it(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["bom", str(VERSIONS[0])])
    CliRunner().invoke(app, ["bom", str(VERSIONS[0]), "--output", str(tmp_path / "bom.json")])
    assert json.loads(printed.stdout) == json.loads((tmp_path / "bom.json").read_text())
