import numpy as np
import pytest

from ferserve_training.errors import RunError
from ferserve_training.loop.records import Checkpoint, EpochRecord, RunSettings
from ferserve_training.loop.run_directory import RunDirectory

_SETTINGS = RunSettings("fer-nano", 0, 2, None, smoke=True, data_sha256="abc", training_count=9, framework="tf")


@pytest.fixture
def directory(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.create(_SETTINGS)
    return directory


def test_settings_and_checkpoint_come_back_as_they_were(directory):
    history = (EpochRecord(1, 0.5, 1.9, None, 3.5), EpochRecord(2, 1.0, 1.8, 0.25, 3.4))
    directory.save(Checkpoint(history, {"weights/0": np.arange(6, dtype=np.float32).reshape(2, 3)}))

    loaded = RunDirectory(directory.path).load()

    assert RunDirectory(directory.path).settings() == _SETTINGS
    assert loaded is not None
    assert loaded.history == history
    assert loaded.state["weights/0"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_before_the_first_epoch_there_is_no_checkpoint(directory):
    assert directory.load() is None


def test_a_run_is_not_begun_over_another(directory):
    with pytest.raises(RunError, match="already holds a run; add --resume"):
        RunDirectory(directory.path).create(_SETTINGS)


def test_an_empty_folder_holds_no_run(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        RunDirectory(tmp_path).settings()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("")

    with pytest.raises(RunError, match="run: cannot be written"):
        RunDirectory(tmp_path / "run").create(_SETTINGS)


def test_a_damaged_checkpoint_is_named(directory):
    (directory.path / "checkpoint.npz").write_bytes(b"PK\x03\x04 and then nothing")

    with pytest.raises(RunError, match=r"checkpoint\.npz: cannot be read"):
        directory.load()


def test_damaged_settings_are_named(directory):
    (directory.path / "run.json").write_text('{"recipe": "fer-nano"}')

    with pytest.raises(RunError, match=r"run\.json: cannot be read"):
        directory.settings()


def test_nothing_but_the_three_files_is_left_behind(directory):
    directory.save(Checkpoint((), {}))

    assert sorted(path.name for path in directory.path.iterdir()) == [
        "checkpoint.npz",
        "epochs.csv",
        "run.json",
    ]
