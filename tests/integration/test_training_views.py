"""Tests degraded views, non-faces and view banks on real frameworks and files."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from ferserve_training.cli import app
from ferserve_training.data.faces import LabelledFaces
from ferserve_training.data.non_faces import CROPS_PER_PICTURE, cut_non_faces
from ferserve_training.errors import DataError, RunError
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.loop.bank_rounds import draw_round
from ferserve_training.loop.learner import new_learner
from ferserve_training.loop.lesson import Lesson
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.nets.trainable import not_a_face_output
from ferserve_training.recipes.catalog import RECIPES
from ferserve_training.recipes.recipe import STILL, Augmentation
from ferserve_training.recipes.smoke import smoke_version
from ferserve_training.views.bank import BankRound, open_bank
from ferserve_training.views.degradation import degrade, degraded_views
from ferserve_training.views.non_faces import count_non_faces, non_faces
from support.training_faces import write_face_folder

_SMOKE = smoke_version(RECIPES["fer-nano"])
_OFF, _ON = 1.0, 0.0  # a draw that is above or below every probability


@pytest.fixture(scope="module")
def faces():
    return draw_faces(64)


@pytest.fixture(scope="module")
def labelled(faces):
    return LabelledFaces(faces, np.arange(64, dtype=np.int32) % 7, tuple(map(str, range(64))))


def _degraded(faces, **draws):
    """Degrade with only the named draws (by their place) switched on."""
    names = (
        *("gamma", "gamma_at", "blur", "sigma", "anisotropic", "sigma_x", "resample", "side", "noise", "noise_at"),
        *("jpeg", "quality", "unused"),
    )
    values = [np.full(len(faces), draws.get(name, _OFF), np.float32) for name in names]
    noise = np.random.default_rng(0).normal(size=(len(faces), 48, 48)).astype(np.float32)
    views = faces[..., 0].astype(np.float32)
    return np.asarray(degraded_views(tf.constant(views), list(map(tf.constant, values)), tf.constant(noise)))


def test_a_view_that_no_operation_is_drawn_for_stays_as_it_is(faces):
    assert _degraded(faces) == pytest.approx(faces[..., 0].astype(np.float32), abs=1e-2)


def test_a_blur_is_the_one_of_opencv(faces):
    views = _degraded(faces[:4], blur=_ON, sigma=0.8)

    sigma = 0.3 + 0.8 * 1.5
    for view, face in zip(views, faces, strict=False):
        expected = cv2.GaussianBlur(face[..., 0].astype(np.float32), (0, 0), sigma)
        assert np.abs(view - expected)[8:-8, 8:-8].max() < 0.1


def test_compression_leaves_what_libjpeg_leaves(faces):
    views = _degraded(faces[:8], jpeg=_ON, quality=(40 - 25) / 65)

    for view, face in zip(views, faces, strict=False):
        _, encoded = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 40])
        expected = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE).astype(np.float32)
        assert np.abs(view - expected).mean() < 1.0
        assert np.abs(face[..., 0] - expected).mean() > 2.0  # else there was nothing to leave out


def test_noise_has_the_drawn_deviation(faces):
    grey = np.full_like(faces, 128)

    views = _degraded(grey, noise=_ON, noise_at=0.5)

    assert (views - 128.0).std() == pytest.approx(8.0, rel=0.02)


def test_a_gamma_above_one_darkens_and_low_resolution_loses_detail(faces):
    assert _degraded(faces, gamma=_ON, gamma_at=0.9).mean() < faces.mean() - 10
    checks = np.tile(np.asarray([[0, 255], [255, 0]], np.uint8), (24, 24))[np.newaxis, ..., np.newaxis]
    assert _degraded(checks, resample=_ON, side=0.2).std() < 30


def test_the_seed_decides_which_share_of_the_views_is_degraded(faces):
    views = tf.constant(np.tile(faces, (16, 1, 1, 1)).astype(np.float32))

    first, again, other = (np.asarray(degrade(views, tf.constant(seed), 0.5)) for seed in ([1, 2], [1, 2], [1, 3]))

    assert (first == again).all()
    assert (first != other).any()
    # Half may be changed; one in nine of these draws no operation at all (0.4 * 0.6 * 0.6 * 0.8 * 0.8).
    changed = (np.abs(first - views) > 1e-3).any(axis=(1, 2, 3)).mean()
    assert changed == pytest.approx(0.5 * (1 - 0.4 * 0.6 * 0.6 * 0.8 * 0.8), abs=0.05)
    assert first.min() >= 0
    assert first.max() <= 255


def test_non_faces_are_grey_levels_that_differ_from_their_faces_and_come_from_the_seed(faces):
    views, crops = tf.constant(faces.astype(np.float32)), tf.zeros((64, 48, 48, 1))

    made = [
        np.asarray(non_faces(views, crops, has_crops=False, seed=tf.constant(seed))) for seed in ([0, 1], [0, 2])
    ]

    assert made[0].shape == faces.shape
    assert made[0].min() >= 0
    assert made[0].max() <= 255
    assert (np.abs(made[0] - faces) > 1).mean(axis=(1, 2, 3)).min() > 0.3
    assert (made[0] != made[1]).any()
    assert made[0].std(axis=(1, 2, 3)).min() > 0  # without crops none is taken from them


def test_a_quarter_of_the_non_faces_are_crops_where_there_are_some(faces):
    views = tf.constant(np.tile(faces, (16, 1, 1, 1)).astype(np.float32))
    crops = tf.fill(views.shape, 300.0)  # no other kind is that bright

    made = np.asarray(non_faces(views, crops, has_crops=True, seed=tf.constant([3, 4])))

    assert (made == 300).all(axis=(1, 2, 3)).mean() == pytest.approx(0.25, abs=0.05)


def test_a_net_learns_to_tell_faces_from_non_faces(labelled):
    recipe = replace(
        _SMOKE,
        augmentation=Augmentation(),
        optimisation=replace(_SMOKE.optimisation, ema_decay=0.0, not_a_face_share=1.0),
    )
    learner = new_learner(Lesson(recipe, labelled, seed=0))
    order = np.arange(64, dtype=np.int32).reshape(4, 16)

    for epoch in range(25):
        learner.begin_epoch(epoch)
        learner.train_epoch(order, np.full(4, 2e-2, np.float32), epoch * 4)

    tells = not_a_face_output(learner._averaged)
    others = np.random.default_rng(0).integers(0, 256, labelled.images.shape).astype(np.float32)
    assert np.mean(tells(labelled.images.astype(np.float32))) < np.mean(tells(others)) - 1


def test_one_face_of_ten_is_replaced_and_one_at_least():
    assert [count_non_faces(size) for size in (4, 16, 128, 512)] == [1, 2, 13, 51]


def test_crops_are_cut_from_pictures_the_same_each_time(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 100, 140, 3), np.uint8)
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture)

    crops = cut_non_faces(tmp_path)

    assert crops.shape == (2 * CROPS_PER_PICTURE, 48, 48, 1)
    assert (crops == cut_non_faces(tmp_path)).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no picture", "is no readable image"),
        (cv2.imencode(".png", np.zeros((20, 60), np.uint8))[1].tobytes(), "is smaller than 32 pixels"),
        (None, "holds no picture"),
    ],
)
def test_a_folder_that_gives_no_crops_is_rejected(content, reason, tmp_path):
    if content is not None:
        (tmp_path / "odd.png").write_bytes(content)

    with pytest.raises(DataError, match=reason):
        cut_non_faces(tmp_path)


def _teacher(views):
    """Answer by brightness, so that mixing and mirroring can be followed."""
    means = tf.reduce_mean(tf.cast(views, tf.float32), [1, 2, 3])
    return tf.stack([means / 50.0, *[tf.zeros_like(means)] * 6], axis=1)


def _round(faces, mixed_share):
    return draw_round(faces, STILL, [_teacher], (0, 1), mixed_share=mixed_share, mirrors=True)


def test_a_round_without_mixing_holds_the_views_and_the_teachers_answers_for_them(faces):
    made = _round(faces, 0.0)

    assert (np.abs(made.images.astype(int) - faces) <= 1).all()
    assert (made.shares == 1).all()
    expected = tf.nn.softmax(_teacher(tf.constant(made.images)))
    assert made.probabilities == pytest.approx(np.asarray(expected), abs=1e-5)


def test_a_mixed_view_has_as_much_of_each_face_as_its_share_says(faces):
    grey = np.repeat(np.asarray([0, 200], np.uint8), 32)[:, None, None, None] * np.ones((1, 48, 48, 1), np.uint8)
    still = replace(STILL)

    made = draw_round(grey, still, [_teacher], (0, 0), mixed_share=1.0, mirrors=False)

    own, other = grey.mean(axis=(1, 2, 3)), grey[made.mates].mean(axis=(1, 2, 3))
    expected = made.shares * own + (1 - made.shares) * other
    assert made.images.mean(axis=(1, 2, 3)) == pytest.approx(expected, abs=1.5)
    assert 0 < made.shares.min() < 0.3
    targets = np.eye(64, dtype=np.float32)
    assert made.mix(targets).sum(axis=1) == pytest.approx(np.ones(64))


def _make_bank(tmp_path, *extra, views="1"):
    data = tmp_path / "faces"
    if not data.exists():
        write_face_folder(data, training_count=4, test_count=2)
    run = tmp_path / "teacher"
    if not run.exists():
        _succeed("train", "fer-nano", "--smoke", "--data", str(data), "--run-dir", str(run))
    arguments = ("--data", str(data), "--output", str(tmp_path / "bank"), "--teacher", str(run), "--views", views)
    return CliRunner().invoke(app, ["bank", "fer-nano", *arguments, *extra])


def _succeed(*arguments):
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def bank_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("banks")
    for views in ("1", "2"):
        assert _make_bank(path, views=views).exit_code == 0
    return path


def test_a_bank_that_is_extended_holds_what_one_made_at_once_holds(bank_path, tmp_path):
    arguments = ("--data", str(bank_path / "faces"), "--teacher", str(bank_path / "teacher"), "--views", "2")
    _succeed("bank", "fer-nano", "--output", str(tmp_path / "whole"), *arguments)

    assert open_bank(tmp_path / "whole").sha256() == open_bank(bank_path / "bank").sha256()


def test_a_bank_of_other_settings_is_not_extended(bank_path):
    result = _make_bank(bank_path, "--seed", "5", views="3")

    assert result.exit_code != 0
    assert "its seed is 0, not 5; name another folder" in str(result.exception)


def test_a_damaged_round_is_distinguished_from_a_whole_one(bank_path, tmp_path):
    bank = open_bank(bank_path / "bank")
    assert isinstance(bank.read(1), BankRound)
    (tmp_path / "bank.json").write_bytes((bank_path / "bank" / "bank.json").read_bytes())
    content = bytearray((bank_path / "bank" / "round-0001.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "round-0001.npz").write_bytes(content)

    with pytest.raises(RunError, match=r"round-0001\.npz: has been changed since it was written"):
        open_bank(tmp_path).read(1)
    with pytest.raises(RunError, match=r"round-0000\.npz: cannot be read"):
        open_bank(tmp_path).read(0)


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"format_version": 9}', '{"format_version": 1, "rounds": []}']
)
def test_a_folder_without_a_bank_is_rejected(content, tmp_path):
    if content is not None:
        (tmp_path / "bank.json").write_text(content)

    with pytest.raises(RunError):
        open_bank(tmp_path)


def _train_from(bank_path, run, *extra):
    arguments = (
        "--smoke",
        "--data",
        str(bank_path / "faces"),
        "--run-dir",
        str(run),
        "--bank",
        str(bank_path / "bank"),
    )
    return CliRunner().invoke(app, ["train", "fer-nano", *arguments, *extra])


def test_a_bank_of_all_faces_teaches_a_run_that_can_be_interrupted(bank_path, tmp_path):
    assert _train_from(bank_path, tmp_path / "whole", "--epochs", "2").exit_code == 0
    settings = RunDirectory(tmp_path / "whole").settings()
    assert settings.bank_rounds == 2
    assert settings.bank_sha256 == open_bank(bank_path / "bank").sha256()
    assert _train_from(bank_path, tmp_path / "whole", "--resume").exit_code == 0


def test_a_run_is_not_resumed_from_another_bank(bank_path, tmp_path):
    assert _train_from(bank_path, tmp_path / "run", "--epochs", "1").exit_code == 0
    path = tmp_path / "run" / "run.json"
    content = json.loads(path.read_text("utf-8")) | {"bank_sha256": "0" * 64, "epochs": 2}
    path.write_text(json.dumps(content))

    result = _train_from(bank_path, tmp_path / "run", "--resume")

    assert "is not the bank that the run began with" in str(result.exception)


def test_a_bank_and_teachers_or_a_bank_of_other_faces_are_rejected(bank_path, tmp_path):
    result = _train_from(bank_path, tmp_path / "run", "--teacher", str(bank_path / "teacher"))
    assert "leave --teacher out" in str(result.exception)
    other = write_face_folder(tmp_path / "faces", training_count=5, test_count=2)
    arguments = (
        "--smoke",
        "--data",
        str(other),
        "--run-dir",
        str(tmp_path / "run"),
        "--bank",
        str(bank_path / "bank"),
    )

    result = CliRunner().invoke(app, ["train", "fer-nano", *arguments])

    assert "was made from other faces" in str(result.exception)
    assert not (tmp_path / "run" / "run.json").exists()
