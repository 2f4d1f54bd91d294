"""Tests the manifest of a version: its required fields, and the checksums of its files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import InputSpec
from ferserve_server.models.manifest import MANIFEST_PATH, read_manifest, verify_files
from support.fake_models import publish_fake
from support.model_factory import LABELS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return publish_fake(tmp_path, "fer-nano", 4)


def _document(version: Path) -> dict[str, Any]:
    return json.loads((version / MANIFEST_PATH).read_text())


def _write(version: Path, document: object) -> None:
    (version / MANIFEST_PATH).write_text(json.dumps(document))


def test_a_manifest_tells_name_version_shape_labels_and_sums(version: Path) -> None:
    manifest = read_manifest(version)
    assert (manifest.name, manifest.version) == ("fer-nano", 4)
    description = manifest.description
    assert description.labels == LABELS
    assert description.input == InputSpec("faces", 48, 48)
    assert description.output == "probabilities"
    assert (description.mac_count, description.parameter_count) == (252, 252)
    assert description.metrics == {"public_test_accuracy": 0.14}
    assert set(manifest.file_sums) == {"saved_model.pb", "assets.extra/golden.npz"}


def test_what_is_only_known_sometimes_may_be_left_out(version: Path) -> None:
    document = _document(version)
    for name in ("mac_count", "parameter_count", "metrics"):
        del document[name]
    _write(version, document)
    description = read_manifest(version).description
    assert (description.mac_count, description.parameter_count, description.metrics) == (0, 0, {})


def test_thresholds_are_read_and_left_out_they_are_the_defaults(version: Path) -> None:
    described = read_manifest(version).description
    assert (described.uncertain_threshold, described.not_a_face_output) == (0.5, "")
    assert described.score_column_count == len(LABELS)
    document = _document(version)
    document["outputs"]["not_a_face"] = "no_face"
    _write(version, document)
    assert read_manifest(version).description.not_a_face_output == ""  # no threshold, no use
    document["decisions"] = {"uncertain_threshold": 0.4, "not_a_face_threshold": 0.75}
    _write(version, document)
    described = read_manifest(version).description
    assert (described.uncertain_threshold, described.not_a_face_threshold) == (0.4, 0.75)
    assert described.not_a_face_output == "no_face"
    assert described.score_column_count == len(LABELS) + 1


@pytest.mark.parametrize(
    "decisions",
    [
        {"uncertain_threshold": 1.1},
        {"uncertain_threshold": "x"},
        {"not_a_face_threshold": 0},
        {"not_a_face_threshold": -1},
        [],
    ],
)
def test_a_threshold_out_of_range_is_rejected(version: Path, decisions: object) -> None:
    _write(version, _document(version) | {"decisions": decisions})
    with pytest.raises(ModelRejectedError) as caught:
        read_manifest(version)
    assert caught.value.reason == "MANIFEST_INVALID"


def test_a_version_without_a_manifest_is_rejected_as_such(version: Path) -> None:
    (version / MANIFEST_PATH).unlink()
    with pytest.raises(ModelRejectedError) as caught:
        read_manifest(version)
    assert caught.value.reason == "MANIFEST_MISSING"


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": 2},
        {"format_version": None},
        {"name": ...},
        {"version": ...},
        {"version": "four"},
        {"version": 1e999},
        {"labels": ...},
        {"labels": ["happy"]},
        {"labels": ["happy", "happy"]},
        {"labels": 7},
        {"input": ...},
        {"input": {"name": "faces", "dtype": "float32", "height": 48, "width": 48, "channels": 1}},
        {"input": {"name": "faces", "dtype": "uint8", "height": 48, "width": 48, "channels": 3}},
        {"input": {"name": "faces", "dtype": "uint8", "height": 0, "width": 48, "channels": 1}},
        {"input": {"name": "faces", "dtype": "uint8", "height": 48, "width": -1, "channels": 1}},
        {"input": {"name": "faces", "dtype": "uint8", "channels": 1}},
        {"outputs": ...},
        {"outputs": {"logits": "logits"}},
        {"files": ...},
        {"files": []},
        {"files": {"other.pb": "0" * 64}},
        {"metrics": {"accuracy": "high"}},
        {"metrics": None},
    ],
    ids=str,
)
def test_a_manifest_that_does_not_say_what_it_must_is_rejected(version: Path, changes: dict[str, object]) -> None:
    document = _document(version) | changes
    _write(version, {name: value for name, value in document.items() if value is not ...})
    with pytest.raises(ModelRejectedError) as caught:
        read_manifest(version)
    assert caught.value.reason == "MANIFEST_INVALID"
    assert MANIFEST_PATH in caught.value.message


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe\x00"])
def test_what_is_no_json_object_is_rejected(version: Path, text: bytes) -> None:
    (version / MANIFEST_PATH).write_bytes(text)
    with pytest.raises(ModelRejectedError) as caught:
        read_manifest(version)
    assert caught.value.reason == "MANIFEST_INVALID"


def test_files_that_are_as_the_manifest_says_are_accepted(version: Path) -> None:
    verify_files(version, read_manifest(version))


def _rejection(version: Path) -> ModelRejectedError:
    with pytest.raises(ModelRejectedError) as caught:
        verify_files(version, read_manifest(version))
    return caught.value


def test_a_missing_file_is_rejected_by_name(version: Path) -> None:
    (version / "saved_model.pb").unlink()
    rejection = _rejection(version)
    assert (rejection.reason, rejection.metadata) == ("FILE_MISSING", {"file": "saved_model.pb"})


def test_a_file_that_differs_by_one_bit_is_rejected_by_name(version: Path) -> None:
    path = version / "saved_model.pb"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    rejection = _rejection(version)
    assert (rejection.reason, rejection.metadata) == ("FILE_CHANGED", {"file": "saved_model.pb"})


@pytest.mark.parametrize("name", ["extra.txt", "variables/variables.index", ".hidden", "assets.extra/notes.txt"])
def test_a_file_that_the_manifest_does_not_name_is_rejected(version: Path, name: str) -> None:
    path = version / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    rejection = _rejection(version)
    assert (rejection.reason, rejection.metadata) == ("FILE_UNLISTED", {"file": name})


@pytest.mark.parametrize("name", ["../3/saved_model.pb", "/etc/hostname", "variables/../../secret"])
def test_a_manifest_may_not_name_files_outside_its_folder(version: Path, name: str) -> None:
    manifest = read_manifest(version)
    manifest = replace(manifest, file_sums={name: "0" * 64, **manifest.file_sums})
    with pytest.raises(ModelRejectedError) as caught:
        verify_files(version, manifest)
    assert (caught.value.reason, caught.value.metadata) == ("FILE_OUTSIDE", {"file": name})


def test_a_link_into_a_store_is_followed_while_the_sum_holds(version: Path, tmp_path: Path) -> None:
    """As DVC, KServe and the caches of hubs have it (faults, item 19)."""
    store = tmp_path / "store"
    (version / "saved_model.pb").rename(store)
    (version / "saved_model.pb").symlink_to(store)
    verify_files(version, read_manifest(version))
    store.write_bytes(b"other weights")
    assert _rejection(version).reason == "FILE_CHANGED"


def test_a_linked_folder_is_followed_and_its_other_files_are_rejected(version: Path, tmp_path: Path) -> None:
    (version / "assets.extra").rename(tmp_path / "store")
    (version / "assets.extra").symlink_to(tmp_path / "store")
    verify_files(version, read_manifest(version))
    (tmp_path / "store" / "stray").write_text("x")
    assert _rejection(version).reason == "FILE_UNLISTED"


@pytest.mark.parametrize("target", ["/etc/hostname", "/nowhere", ".."])
def test_a_link_that_the_manifest_does_not_name_is_rejected(version: Path, target: str) -> None:
    (version / "link").symlink_to(target)
    rejection = _rejection(version)
    assert (rejection.reason, rejection.metadata["file"].split("/")[0]) == ("FILE_UNLISTED", "link")


def test_reading_files_can_be_ended(version: Path) -> None:
    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        verify_files(version, read_manifest(version), stop)
