import csv
import gzip
import tarfile
import zipfile

import cv2
import numpy as np
import pytest

from ferserve_training.data.duplicates import Duplicates, count_duplicates
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.data.votes import NO_MAJORITY, load_votes, majority_labels, vote_shares
from ferserve_training.errors import DataError
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.labels import LABELS
from support.training_faces import write_face_folder

_USAGES = ("Training", "PublicTest", "PrivateTest")
_VOTES = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def _write_csv(path, faces, change=lambda _row, line: line):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for row, face in enumerate(faces):
            line = [row % 7, " ".join(map(str, face.ravel())), _USAGES[row // 7]]
            writer.writerow(change(row, line))
    return path


@pytest.fixture
def faces():
    return draw_faces(21)


def test_the_competition_file_gives_training_and_public_test(tmp_path, faces):
    data = load_data(DataChoice(_write_csv(tmp_path / "fer2013.csv", faces)))

    assert (data.training.images == faces[:7]).all()
    assert (data.public_test.images == faces[7:14]).all()
    assert data.public_test.labels.tolist() == list(range(7))
    assert data.public_test.names[0] == "fer0000007.png"
    assert data.split == "PublicTest"


def test_private_test_is_read_only_when_asked_for(tmp_path, faces):
    path = _write_csv(tmp_path / "fer2013.csv", faces)

    data = load_data(DataChoice(path, scored="PrivateTest"))

    assert (data.public_test.images == faces[14:]).all()
    assert data.split == "PrivateTest"
    with pytest.raises(DataError, match="has no PrivateTest"):
        load_data(DataChoice(write_face_folder(tmp_path / "faces"), scored="PrivateTest"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, "7", "line 5: '7' is no emotion; expected 0 to 6"),
        (0, "-1", "line 5: '-1' is no emotion"),
        (1, "1 2 3", "line 5: has 3 pixels; expected 2304"),
        (1, "x " * 2304, "line 5: has pixels that are no whole numbers"),
        (1, "256 " * 2304, "line 5: has pixels outside 0 to 255"),
        (2, "Test", "line 5: 'Test' is no usage"),
    ],
)
def test_a_bad_line_of_the_competition_file_is_named(tmp_path, faces, column, value, message):
    def change(row, line):
        return [value if row == 3 and index == column else cell for index, cell in enumerate(line)]

    with pytest.raises(DataError, match=message):
        load_data(DataChoice(_write_csv(tmp_path / "fer2013.csv", faces, change)))


def test_a_competition_file_without_a_column_is_rejected(tmp_path):
    (tmp_path / "x.csv").write_text("emotion,Usage\n0,Training\n")

    with pytest.raises(DataError, match="lacks the column pixels"):
        load_data(DataChoice(tmp_path / "x.csv"))


def _as_icml(path, target):
    """Write what Kaggle calls `icml_face_data.csv`: other order, a space before each name."""
    with path.open(newline="") as file, target.open("w", newline="") as written:
        writer = csv.writer(written)
        writer.writerow(["emotion", " Usage", " pixels"])
        writer.writerows((line["emotion"], line["Usage"], line["pixels"]) for line in csv.DictReader(file))
    return target


def _in_zip(path, target):
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(path, "fer2013.csv")
    return target


def _in_tar(path, target):
    with tarfile.open(target, "w:gz") as archive:
        archive.add(path, "fer2013/fer2013.csv")
        archive.add(__file__, "fer2013/README")
    return target


def _changed_bytes(change):
    def write(path, target):
        target.write_bytes(change(path.read_bytes()))
        return target

    return write


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (_as_icml, "icml_face_data.csv"),
        (_in_zip, "csv.zip"),
        (_in_tar, "fer2013.tar.gz"),
        (_changed_bytes(lambda content: b"\xef\xbb\xbf" + content), "bom.csv"),
        (_changed_bytes(lambda content: content.replace(b"\r\n", b"\n")), "lf.csv"),
    ],
)
def test_every_form_of_the_competition_file_holds_the_same_faces(tmp_path, faces, make, name):
    plain = _write_csv(tmp_path / "fer2013.csv", faces)

    assert load_data(DataChoice(make(plain, tmp_path / name))).sha256 == load_data(DataChoice(plain)).sha256


def test_an_archive_of_two_csv_files_asks_for_the_one_that_is_meant(tmp_path, faces):
    plain = _write_csv(tmp_path / "fer2013.csv", faces)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.write(plain, "a.csv")
        archive.write(plain, "b.csv")

    with pytest.raises(DataError, match="holds 2 csv files; name the one with the faces"):
        load_data(DataChoice(tmp_path / "two.zip"))


@pytest.mark.parametrize("content", [b"no archive", gzip.compress(b"no archive"), gzip.compress(bytes(4096))[:20]])
def test_a_damaged_tar_archive_is_named(tmp_path, content):
    (tmp_path / "faces.tar.gz").write_bytes(content)

    with pytest.raises(DataError, match=r"faces\.tar\.gz"):
        load_data(DataChoice(tmp_path / "faces.tar.gz"))


@pytest.fixture
def own_set(tmp_path):
    for label in LABELS:
        (tmp_path / "own" / label).mkdir(parents=True)
        for index, face in enumerate(draw_faces(10)):
            image = cv2.resize(face, (60, 70))
            cv2.imwrite(str(tmp_path / "own" / label / f"{label}{index}.jpg"), image)
    return tmp_path / "own"


def test_a_fraction_of_each_class_of_an_own_set_is_held_back(own_set):
    data = load_data(DataChoice(own_set, validation_fraction=0.2))

    assert data.training.class_counts() == (8,) * 7
    assert data.public_test.class_counts() == (2,) * 7
    assert not set(data.training.names) & set(data.public_test.names)
    assert data.training.images.shape == (56, 48, 48, 1)
    assert data.split == "validation"


def test_the_seed_decides_what_is_held_back(own_set):
    names = [
        load_data(DataChoice(own_set, validation_fraction=0.2, validation_seed=seed)).public_test.names
        for seed in (0, 0, 1)
    ]

    assert names[0] == names[1] != names[2]


def test_an_own_set_without_a_validation_split_asks_for_a_fraction(own_set):
    with pytest.raises(DataError, match="has no validation folder; give --validation-fraction"):
        load_data(DataChoice(own_set))


def test_an_own_validation_folder_is_taken(tmp_path):
    folder = write_face_folder(tmp_path / "own", training_count=2, test_count=1)
    (folder / "test").rename(folder / "val")

    data = load_data(DataChoice(folder))

    assert (data.training.class_counts(), data.public_test.class_counts()) == ((2,) * 7, (1,) * 7)
    assert data.split == "validation"


def test_every_file_at_fault_is_reported_and_the_rest_is_read(own_set):
    (own_set / "sad" / "broken.jpg").write_bytes(b"x")
    (own_set / "bored").mkdir()
    (own_set / "bored" / "a.jpg").write_bytes(b"x")
    faults = []

    data = load_data(DataChoice(own_set, validation_fraction=0.2), faults.append)

    assert len(data.training) + len(data.public_test) == 70
    assert [str(fault).removeprefix(str(own_set)) for fault in faults] == [
        f"/bored/a.jpg: is in no folder of an emotion; expected one of {', '.join(LABELS)}",
        "/sad/broken.jpg: is no readable image: it looks like text",
    ]


def test_copies_inside_and_across_splits_are_counted(tmp_path):
    folder = write_face_folder(tmp_path / "faces", training_count=2, test_count=1)
    sad, happy = folder / "train" / "sad", folder / "train" / "happy"
    (sad / "copy.png").write_bytes((sad / "sad_0.png").read_bytes())
    (happy / "copy.png").write_bytes((sad / "sad_0.png").read_bytes())
    (folder / "test" / "sad" / "copy.png").write_bytes((happy / "happy_1.png").read_bytes())

    assert count_duplicates(load_data(DataChoice(folder))) == Duplicates(2, 0, 1, 2)


def test_votes_are_found_by_name_or_by_row(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text(f"{_VOTES}\nTraining,a.png,1,9,0,0,0,0,0,0,0,0\nTraining,,0,0,0,0,0,0,10,0,0,0\n")

    votes = load_votes(path)

    assert majority_labels(("fer0000001.png", "a.png", "?"), votes, path).tolist() == [
        LABELS.index("fear"),
        LABELS.index("happy"),
        NO_MAJORITY,
    ]


@pytest.mark.parametrize("counts", ["5,5,0,0,0,0,0,0,0,0", "1,1,0,0,0,0,0,8,0,0", "0,0,0,0,0,0,0,0,0,9"])
def test_ties_and_answers_that_are_no_class_are_no_majority(tmp_path, counts):
    path = tmp_path / "votes.csv"
    path.write_text(f"{_VOTES}\nTraining,a.png,{counts}\n")

    assert majority_labels(("a.png",), load_votes(path), path).tolist() == [NO_MAJORITY]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Image name,neutral\n", "lacks the column 'happiness'"),
        (f"{_VOTES}\nTraining,a.png,x,0,0,0,0,0,0,0,0,0\n", "line 2: has votes that are no whole numbers"),
    ],
)
def test_bad_votes_are_named(tmp_path, content, message):
    (tmp_path / "votes.csv").write_text(content)

    with pytest.raises(DataError, match=message):
        load_votes(tmp_path / "votes.csv")


def test_votes_for_other_faces_are_rejected(tmp_path):
    with pytest.raises(DataError, match="votes for none of the faces"):
        majority_labels(("a.png",), {"b.png": (1,) * 10}, tmp_path)


def test_pixels_come_back_as_they_were_written(tmp_path, faces):
    data = load_data(DataChoice(_write_csv(tmp_path / "fer2013.csv", faces)))

    assert data.training.images.dtype == np.uint8


def test_shares_of_votes_sum_to_one_and_are_zero_where_none_are_known(tmp_path):
    votes = {"a.png": (5, 3, 0, 0, 0, 0, 0, 0, 0, 2), "b.png": (0,) * 10}

    shares = vote_shares(("b.png", "a.png", "c.png"), votes, tmp_path)

    assert shares[1].tolist() == pytest.approx([0.5, 0.3, 0, 0, 0, 0, 0, 0, 0, 0.2])
    assert shares[[0, 2]].tolist() == [[0.0] * 10] * 2


def test_votes_for_other_faces_are_no_votes(tmp_path):
    with pytest.raises(DataError, match="holds votes for none of the faces"):
        vote_shares(("a.png",), {"b.png": (1,) * 10}, tmp_path)
