import os
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferserve_training.data.folders import load_faces
from ferserve_training.errors import DataError
from ferserve_training.labels import LABELS
from support.training_faces import write_face_folder


@pytest.fixture
def folder(tmp_path):
    return write_face_folder(tmp_path / "faces", training_count=2, test_count=1)


def _zip(folder):
    return folder.parent / shutil.make_archive(str(folder.parent / "faces"), "zip", folder.parent, "faces")


def test_images_labels_and_names_stay_together(folder):
    faces = load_faces(folder)

    assert faces.training.images.shape == (14, 48, 48, 1)
    assert faces.training.images.dtype == np.uint8
    assert faces.training.class_counts() == (2,) * 7
    assert faces.public_test.class_counts() == (1,) * 7
    for image, label, name in zip(faces.training.images, faces.training.labels, faces.training.names, strict=True):
        path = folder / "train" / LABELS[label] / name
        assert (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) == image[..., 0]).all()


def test_an_archive_is_read_like_its_unpacked_folder(folder):
    from_folder, from_archive = load_faces(folder), load_faces(_zip(folder))

    assert from_archive.sha256 == from_folder.sha256
    assert (from_archive.training.images == from_folder.training.images).all()
    assert from_archive.training.names == from_folder.training.names


def test_the_digest_sees_a_single_pixel_and_a_changed_label(folder):
    before = load_faces(folder).sha256
    path = folder / "train" / "sad" / "sad_0.png"
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    image[20, 20] ^= 1
    cv2.imwrite(str(path), image)
    after = load_faces(folder).sha256
    path.rename(folder / "train" / "angry" / "sad_0.png")

    assert len({before, after, load_faces(folder).sha256}) == 3


def test_backslashes_in_the_names_of_an_archive_part_folders(folder):
    path = folder.parent / "windows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            info = zipfile.ZipInfo("x")
            # Set afterwards, because the constructor turns backslashes around on Windows only.
            info.filename = str(file.relative_to(folder)).replace("/", "\\")
            archive.writestr(info, file.read_bytes())

    assert load_faces(path).sha256 == load_faces(folder).sha256


def test_a_tar_archive_is_read_like_its_unpacked_folder(folder):
    path = shutil.make_archive(str(folder.parent / "faces"), "gztar", folder.parent, "faces")

    assert load_faces(Path(path)).sha256 == load_faces(folder).sha256


def test_linked_class_folders_are_followed_and_circles_end(folder, tmp_path):
    linked = tmp_path / "linked"
    for split in ("train", "test"):
        (linked / split).mkdir(parents=True)
        for label in LABELS:
            (linked / split / label).symlink_to(folder / split / label, target_is_directory=True)
    (linked / "again").symlink_to(linked, target_is_directory=True)

    assert load_faces(linked).sha256 == load_faces(folder).sha256


def test_what_windows_puts_into_folders_is_left_out(folder):
    for name in ("Thumbs.db", "desktop.ini"):
        (folder / "train" / "sad" / name).write_bytes(b"x")

    assert len(load_faces(folder).training) == 14


def test_a_name_that_is_not_utf_8_is_read_and_shown_when_it_is_at_fault(folder):
    odd = Path(os.fsdecode(bytes(folder / "train" / "sad") + b"/\xff.png"))
    odd.write_bytes((folder / "train" / "sad" / "sad_0.png").read_bytes())
    assert len(load_faces(folder).training) == 15
    odd.write_bytes(b"x")

    with pytest.raises(DataError) as caught:
        load_faces(folder)

    assert str(caught.value).encode("utf-8")  # a terminal can show it
    assert "udcff.png: is no readable image" in str(caught.value)


def test_hidden_files_and_those_of_macos_are_left_out(folder):
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._sad_0.png").write_bytes(b"x")

    assert len(load_faces(folder).training) == 14


def _spoil_with_text(folder):
    (folder / "train" / "fear" / "fear_0.png").write_text("no image")


def _spoil_with_nothing(folder):
    (folder / "train" / "fear" / "fear_0.png").write_bytes(b"")


def _spoil_size(folder):
    cv2.imwrite(str(folder / "train" / "fear" / "fear_0.png"), np.zeros((48, 64), np.uint8))


def _spoil_emotion(folder):
    (folder / "train" / "fear").rename(folder / "train" / "boredom")


def _spoil_split(folder):
    (folder / "train").rename(folder / "training")


def _spoil_place(folder):
    (folder / "labels.csv").write_text("a,b")


def _spoil_class(folder):
    shutil.rmtree(folder / "test" / "disgust")


@pytest.mark.parametrize(
    ("spoil", "where", "what"),
    [
        (_spoil_with_text, "train/fear/fear_0.png", "no readable image"),
        (_spoil_with_nothing, "train/fear/fear_0.png", "no readable image"),
        (_spoil_size, "train/fear/fear_0.png", "is 64x48 pixels; expected 48x48"),
        (_spoil_emotion, "train/boredom/fear_0.png", "'boredom' is no emotion"),
        (_spoil_split, "training/angry/angry_0.png", "is in no split"),
        (_spoil_place, "labels.csv", "is not where an image belongs"),
        (_spoil_class, "faces", "holds no image in test/disgust"),
    ],
)
@pytest.mark.parametrize("as_archive", [False, True])
def test_the_message_names_the_file_at_fault(folder, spoil, where, what, as_archive):
    spoil(folder)
    source = _zip(folder) if as_archive else folder

    with pytest.raises(DataError, match=what) as caught:
        load_faces(source)

    assert where in str(caught.value)
    assert str(source) in str(caught.value)


def test_a_file_that_is_no_archive_is_named(tmp_path):
    path = tmp_path / "fer2013.zip"
    path.write_bytes(b"PK but no more")

    with pytest.raises(DataError, match=r"fer2013\.zip: is no readable zip archive"):
        load_faces(path)


def test_a_damaged_member_of_an_archive_is_named(folder):
    path = _zip(folder)
    content = bytearray(path.read_bytes())
    start = content.index(b"faces/train/sad/sad_1.png")
    content[start + 60] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"sad_1\.png: cannot be unpacked"):
        load_faces(path)


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        load_faces(tmp_path / "nowhere")


def test_a_reduced_set_keeps_all_classes(folder):
    reduced = load_faces(folder).reduced(7)

    assert reduced.training.class_counts() == (1,) * 7
    assert len(reduced.public_test) == 7
