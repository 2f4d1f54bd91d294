import hashlib
import json
from datetime import UTC, datetime

import numpy as np
import pytest

from ferserve_training.evaluation.scores import evaluate
from ferserve_training.export.manifest import Provenance, VersionFacts, digest_files, manifest_of, write_manifest
from ferserve_training.export.model_card import model_card_of
from ferserve_training.labels import LABELS
from ferserve_training.recipes.catalog import RECIPES


@pytest.fixture
def facts():
    labels = np.arange(7).repeat(3)
    logits = np.eye(7, dtype=np.float32)[labels]
    return VersionFacts(
        "fer-nano",
        4,
        datetime(2026, 11, 20, 12, 30, 1, 999, tzinfo=UTC),
        RECIPES["fer-nano"].net,
        evaluate(logits, labels, np.ones(21, bool), "digest"),
        Provenance("fer-nano", 0, 12, 3.5, "abc", 28_560, "one forward pass", "tensorflow 2.21.0"),
    )


def test_the_manifest_says_what_the_server_relies_on(facts):
    manifest = manifest_of(facts, {"saved_model.pb": "0" * 64})

    assert manifest["format_version"] == 1
    assert (manifest["name"], manifest["version"]) == ("fer-nano", 4)
    assert manifest["created_time"] == "2026-11-20T12:30:01Z"
    assert manifest["labels"] == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert manifest["input"] == {"name": "faces", "dtype": "uint8", "height": 48, "width": 48, "channels": 1}
    assert manifest["outputs"] == {"probabilities": "probabilities", "logits": "logits"}
    assert (manifest["mac_count"], manifest["parameter_count"]) == (4_562_592, 125_543)
    assert manifest["temperature"] == facts.evaluation.temperature
    assert manifest["metrics"]["public_test_accuracy"] == 1.0
    assert manifest["training"]["train_count"] == 28_560


def test_the_written_manifest_lists_every_other_file_by_its_digest(facts, tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "variables.index").write_bytes(b"index")
    (tmp_path / "saved_model.pb").write_bytes(b"graph")

    write_manifest(facts, tmp_path)

    manifest = json.loads((tmp_path / "assets.extra" / "manifest.json").read_text())
    assert manifest["files"] == {
        "saved_model.pb": hashlib.sha256(b"graph").hexdigest(),
        "variables/variables.index": hashlib.sha256(b"index").hexdigest(),
    }
    assert digest_files(tmp_path) == manifest["files"]


def test_the_card_names_the_split_beside_the_figures(facts):
    card = model_card_of(facts)

    assert "## Figures on PublicTest (21 faces)" in card
    assert "| Accuracy | 100.00% (95 % Wilson interval 84.54% to 100.00%) |" in card
    assert all(f"| Recall, {label} | 100.00% |" in card for label in LABELS)


@pytest.mark.parametrize("limit", ["Art. 5(1)(f)", "not what a person feels", "no clear licence"])
def test_the_card_says_what_the_model_is_not_for(facts, limit):
    assert limit in model_card_of(facts)
