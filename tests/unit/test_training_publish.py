import pytest

from ferserve_training.errors import TrainingError
from ferserve_training.export.publish import next_version, publish_version


def test_the_first_version_is_1_and_the_next_follows_the_highest(tmp_path):
    assert next_version(tmp_path / "fer-nano") == 1
    for name in ("2", "10", "latest", ".tmp-99"):
        (tmp_path / "fer-nano" / name).mkdir(parents=True)
    assert next_version(tmp_path / "fer-nano") == 11


def test_a_version_is_hidden_until_it_is_whole(tmp_path):
    with publish_version(tmp_path / "fer-nano") as draft:
        (draft.folder / "saved_model.pb").write_bytes(b"graph")
        assert all(path.name.startswith(".tmp-") for path in (tmp_path / "fer-nano").iterdir())

    assert [path.name for path in (tmp_path / "fer-nano").iterdir()] == ["1"]
    assert (tmp_path / "fer-nano" / "1" / "saved_model.pb").read_bytes() == b"graph"


def test_a_failed_export_leaves_nothing_behind(tmp_path):
    def export():
        with publish_version(tmp_path / "fer-nano") as draft:
            (draft.folder / "saved_model.pb").write_bytes(b"graph")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        export()

    assert list((tmp_path / "fer-nano").iterdir()) == []


def test_exports_at_the_same_time_get_numbers_of_their_own(tmp_path):
    with publish_version(tmp_path / "fer-nano") as first, publish_version(tmp_path / "fer-nano") as second:
        for draft in (first, second):
            (draft.folder / "number").write_text(str(draft.version))

    for version in (1, 2):
        assert (tmp_path / "fer-nano" / str(version) / "number").read_text() == str(version)
    assert {path.name for path in (tmp_path / "fer-nano").iterdir()} == {"1", "2"}


def test_a_number_taken_meanwhile_is_not_overwritten(tmp_path):
    rival = tmp_path / "fer-nano" / "1" / "saved_model.pb"

    def export():
        with publish_version(tmp_path / "fer-nano"):
            rival.parent.mkdir()
            rival.write_bytes(b"rival")

    with pytest.raises(TrainingError, match="cannot be published"):
        export()

    assert rival.read_bytes() == b"rival"


def test_a_repository_that_is_a_file_is_named(tmp_path):
    (tmp_path / "repo").write_text("")

    with (
        pytest.raises(TrainingError, match="fer-nano: cannot be written"),
        publish_version(tmp_path / "repo" / "fer-nano"),
    ):
        pass
