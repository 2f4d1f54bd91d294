import hashlib
import json
from datetime import UTC, datetime

import numpy as np
import pytest

from ferserve_training.errors import TrainingError
from ferserve_training.export.ensemble import ensemble_manifest_of, publish_ensemble
from ferserve_training.export.ensemble_golden import Golden, mean_golden, read_golden
from ferserve_training.export.members import read_members
from support.fake_ensembles import MANIFEST, publish_fake_ensemble, publish_shifted
from support.fake_models import rewrite_manifest


def nobody_is_asked(folder, faces):
    raise AssertionError(f"{folder} has the same golden faces, and need not be asked")


def golden_of(folder):
    with np.load(folder / "assets.extra" / "golden.npz") as archive:
        return archive["faces"], archive["probabilities"]


@pytest.fixture
def repository(tmp_path):
    publish_shifted(tmp_path, "fer-base", 1)
    publish_shifted(tmp_path, "fer-small", 2)
    return tmp_path


def refusal(repository, *members, name="fer-ensemble"):
    with pytest.raises(TrainingError) as caught:
        publish_ensemble(name, members, repository, nobody_is_asked)
    assert not (repository / "fer-ensemble" / "1").exists()
    return str(caught.value)


def test_an_ensemble_names_its_members_with_the_sums_of_their_manifests(repository):
    folder = publish_ensemble("fer-ensemble", ["fer-base/1", "fer-small/2"], repository, nobody_is_asked)

    manifest = json.loads((folder / MANIFEST).read_text())
    assert folder == repository / "fer-ensemble" / "1"
    assert manifest["members"] == [
        {"name": name, "version": version, "manifest_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for name, version in (("fer-base", 1), ("fer-small", 2))
        for path in [repository / name / str(version) / MANIFEST]
    ]
    assert set(manifest["files"]) == {"assets.extra/golden.npz", "assets.extra/MODEL_CARD.md"}
    assert manifest["parameter_count"] == 2 * 252


def test_golden_scores_are_the_mean_of_those_that_members_with_the_same_faces_have_published(repository):
    folder = publish_ensemble("fer-ensemble", ["fer-base/1", "fer-small/2"], repository, nobody_is_asked)

    first, second = (golden_of(repository / name) for name in ("fer-base/1", "fer-small/2"))
    faces, probabilities = golden_of(folder)
    assert np.array_equal(faces, first[0])
    assert probabilities.dtype == np.float32
    assert np.abs(probabilities - (first[1] + second[1]) / 2).max() <= 1e-7


def test_a_member_with_golden_faces_of_its_own_is_asked_about_those_of_the_first(repository):
    folders = [repository / "fer-base" / "1", repository / "fer-small" / "2"]
    faces, probabilities = golden_of(folders[1])
    np.savez(folders[1] / "assets.extra" / "golden.npz", faces=255 - faces, probabilities=probabilities)
    asked = []

    def score(folder, faces):
        asked.append((folder, faces))
        return np.full((len(faces), 7), 1 / 7, np.float32)

    golden = mean_golden(folders, score)

    ((folder, asked_faces),) = asked
    assert folder == folders[1]
    assert np.array_equal(asked_faces, read_golden(folders[0]).faces)
    assert np.abs(golden.probabilities - (read_golden(folders[0]).probabilities + 1 / 7) / 2).max() <= 1e-7


def test_members_that_score_other_classes_have_no_mean(repository):
    folders = [repository / "fer-base" / "1", repository / "fer-small" / "2"]
    faces, probabilities = golden_of(folders[1])
    np.savez(folders[1] / "assets.extra" / "golden.npz", faces=faces, probabilities=probabilities[:, :6])

    with pytest.raises(TrainingError, match=r"fer-small/2: scores \(6,\) classes"):
        mean_golden(folders, nobody_is_asked)


def test_versions_of_an_ensemble_are_numbered_on(repository):
    for number in (1, 2):
        folder = publish_ensemble("fer-ensemble", ["fer-base/1", "fer-small/2"], repository, nobody_is_asked)
        assert folder.name == str(number)


def test_an_ensemble_may_be_the_next_version_of_a_member(repository):
    folder = publish_ensemble("fer-base", ["fer-base/1", "fer-small/2"], repository, nobody_is_asked)

    assert folder == repository / "fer-base" / "2"


def test_a_count_that_a_member_does_not_tell_is_not_known_of_the_ensemble(repository):
    rewrite_manifest(repository / "fer-small" / "2", {"mac_count": 0})
    members = read_members(["fer-base/1", "fer-small/2"], repository)

    manifest = ensemble_manifest_of("fer-ensemble", 1, datetime(2026, 11, 21, tzinfo=UTC), members, {})

    assert (manifest["mac_count"], manifest["parameter_count"]) == (0, 504)


@pytest.mark.parametrize("name", ["../fer-ensemble", ".hidden", "", "a/b", "x" * 129])
def test_a_name_that_no_server_would_answer_to_is_refused(repository, name):
    assert "not a model's name" in refusal(repository, "fer-base/1", "fer-small/2", name=name)


@pytest.mark.parametrize(
    "member", ["../secret/1", "fer-base", "fer-base/", "fer-base/01", "/fer-base/1", ".x/1", "a/b/1"]
)
def test_what_is_no_version_is_refused_by_name(repository, member):
    assert refusal(repository, "fer-base/1", member).startswith(f"{member}: not a version")


def test_one_version_is_no_ensemble(repository):
    assert "two or more" in refusal(repository, "fer-base/1")


def test_a_member_named_twice_is_refused(repository):
    assert "named twice" in refusal(repository, "fer-base/1", "fer-base/1")


def test_a_member_that_is_not_there_is_refused(repository):
    assert "fer-large/3" in refusal(repository, "fer-base/1", "fer-large/3")


def test_an_ensemble_is_not_averaged_again(repository):
    publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"], "inner")

    assert refusal(repository, "fer-base/1", "inner/1").startswith("inner/1: an ensemble itself")


def test_a_member_with_a_flipped_byte_is_refused(repository):
    (repository / "fer-small" / "2" / "saved_model.pb").write_bytes(b"other")

    assert "its files are not those of its manifest" in refusal(repository, "fer-base/1", "fer-small/2")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["happy", "sad"]}, "labels or input are not those of fer-base/1"),
        ({"input": {"name": "faces", "height": 64}}, "labels or input are not those of fer-base/1"),
        ({"labels": 7}, "not a version's manifest"),
        ({"files": None}, "not a version's manifest"),
        ({"version": 3}, "is the manifest of fer-small/3"),
    ],
    ids=["labels", "input", "no labels", "no files", "another's"],
)
def test_a_member_that_does_not_fit_is_refused_with_the_reason(repository, changes, words):
    rewrite_manifest(repository / "fer-small" / "2", changes)

    assert words in refusal(repository, "fer-base/1", "fer-small/2")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_a_manifest_that_says_nothing_is_refused(repository, content):
    (repository / "fer-small" / "2" / MANIFEST).write_bytes(content)

    assert "not a version's manifest" in refusal(repository, "fer-base/1", "fer-small/2")


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_a_golden_set_that_cannot_be_read_is_named(repository, content):
    path = repository / "fer-base" / "1" / "assets.extra" / "golden.npz"
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(TrainingError, match="no golden set"):
        read_golden(repository / "fer-base" / "1")


def test_a_golden_set_of_no_faces_is_none(tmp_path):
    (tmp_path / "assets.extra").mkdir()
    empty = Golden(np.zeros((0, 48, 48, 1), np.uint8), np.zeros((0, 7), np.float32))
    np.savez(tmp_path / "assets.extra" / "golden.npz", faces=empty.faces, probabilities=empty.probabilities)

    with pytest.raises(TrainingError, match="no golden set"):
        read_golden(tmp_path)


def test_the_card_names_the_members_and_the_limits(repository):
    folder = publish_ensemble("fer-ensemble", ["fer-base/1", "fer-small/2"], repository, nobody_is_asked)

    card = (folder / "assets.extra" / "MODEL_CARD.md").read_text()
    assert "- fer-base/1\n- fer-small/2\n" in card
    assert "Art. 5(1)(f)" in card
    assert "not been measured" in card
