import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from ferserve_training.cli import app
from ferserve_training.data.photographs import cut_photographs
from ferserve_training.errors import DataError

_ASTRONAUT = "tests/media/astronaut.jpg"


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    for label in ("happy", "sad"):
        (folder / label).mkdir(parents=True)
    photograph = cv2.imread(_ASTRONAUT)
    cv2.imwrite(str(folder / "happy" / "one.jpg"), photograph)
    cv2.imwrite(str(folder / "happy" / "two.jpg"), np.hstack([photograph, photograph]))
    cv2.imwrite(str(folder / "sad" / "wall.png"), np.full((300, 300), 128, np.uint8))
    return folder


def test_the_largest_face_of_each_photograph_is_written_into_its_class(photographs, tmp_path):
    cut = cut_photographs(photographs, tmp_path / "faces")

    assert [path.relative_to(tmp_path / "faces").as_posix() for path in cut.written] == [
        "happy/one.jpg.png",
        "happy/two.jpg.png",
    ]
    assert cut.without_face == ("sad/wall.png",)
    assert cut.with_several == ("happy/two.jpg",)
    first, second = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in cut.written)
    assert first.shape == (48, 48)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9


def test_the_command_names_photographs_without_a_face(photographs, tmp_path):
    result = CliRunner().invoke(app, ["crop", str(photographs), str(tmp_path / "faces")])

    assert result.exit_code == 0
    assert "sad/wall.png: no face found" in result.output
    assert "happy/two.jpg: several faces, the largest was taken" in result.output
    assert "2 faces of 3 photographs" in result.output


def test_what_cannot_be_cut_is_rejected(photographs, tmp_path):
    with pytest.raises(DataError, match="holds no photograph"):
        cut_photographs(_empty(tmp_path), tmp_path / "faces")
    result = CliRunner().invoke(app, ["crop", str(photographs / "sad"), str(tmp_path / "faces")])
    assert "shows no face that the detector finds" in str(result.exception)
    (photographs / "sad" / "broken.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"sad/broken\.jpg: is no readable image"):
        cut_photographs(photographs, tmp_path / "faces")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        cut_photographs(photographs / "happy", tmp_path / "file")


def _empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"
