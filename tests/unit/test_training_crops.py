"""Tests that training and serving see the same pixels; `ferserve-train crop` cuts faces as the server does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ferserve_server.domain.face import DetectionOptions
from ferserve_training.cli import app
from ferserve_training.data.crops import encode_grey_png
from ferserve_training.data.folders import decode
from ferserve_training.errors import DataError
from support.pictures import ASTRONAUT, astronaut, encode, encode_image, noise, plain, turned_astronaut
from support.vision_pools import pool_of

if TYPE_CHECKING:
    from pathlib import Path

PORTRAIT = Image.open(ASTRONAUT).crop((170, 60, 280, 170))
CUT_OUT = np.dstack([np.asarray(PORTRAIT), (astronaut()[60:170, 170:280] > 90).astype(np.uint8) * 255])


def _grey(side: int) -> Image.Image:
    return PORTRAIT.convert("L").resize((side, side), Image.Resampling.LANCZOS)


CASES = {
    "RGB": encode_image(PORTRAIT, "PNG"),
    "transparent": encode(CUT_OUT, "PNG"),
    "palette with transparent colours": encode_image(
        PORTRAIT.convert("P", palette=Image.Palette.ADAPTIVE, colors=64),
        "PNG",
        transparency=bytes([0] * 20 + [255] * 44),
    ),
    "grey with alpha": encode_image(Image.fromarray(CUT_OUT).convert("LA"), "PNG"),
    "transparent WebP": encode(CUT_OUT, "WEBP"),
    "16 bits": encode_image(Image.fromarray(astronaut()[60:170, 170:280].astype(np.uint16) * 257), "PNG"),
    "CMYK": encode_image(PORTRAIT.convert("CMYK"), "JPEG", quality=95),
    "held upside down": turned_astronaut(3),
    **{f"{side} pixels": encode_image(_grey(side), "PNG") for side in (24, 32, 40, 47, 48, 64, 100)},
}


@pytest.mark.parametrize("case", CASES)
async def test_training_reads_the_pixels_that_the_server_reads(case: str):
    async with pool_of() as pool:
        (served,) = await pool.read_crops([CASES[case]])
    assert np.array_equal(decode("x", CASES[case], resize=True), served)


def test_a_damaged_picture_is_named_with_its_reason():
    with pytest.raises(DataError, match=r"a\.png: is no readable image: the JPEG is truncated"):
        decode("a.png", encode(noise(48, 48))[:200])
    with pytest.raises(DataError, match=r"a\.png: is no readable image: there are no bytes"):
        decode("a.png", b"")


def run(*arguments: object):
    return CliRunner().invoke(app, ["crop", *map(str, arguments)])


async def test_crops_are_those_that_the_server_classifies(tmp_path: Path):
    pictures = tmp_path / "pictures" / "happy"
    pictures.mkdir(parents=True)
    (pictures / "one.jpg").write_bytes(ASTRONAUT.read_bytes())
    result = run(tmp_path / "pictures", "--out", tmp_path / "crops")
    assert result.exit_code == 0, result.output
    assert "1 faces of 1 pictures" in result.output
    async with pool_of() as pool:
        found = await pool.find_faces(ASTRONAUT.read_bytes(), DetectionOptions())
    written = (tmp_path / "crops" / "happy" / "one.png").read_bytes()
    assert np.array_equal(decode("one.png", written), found.crops[0])


def test_the_largest_face_is_taken_or_all_of_them(tmp_path: Path):
    pair = np.full((512, 1024), 128, np.uint8)
    pair[:, :512] = astronaut()
    pair[:448, 512:960] = np.asarray(Image.fromarray(astronaut()).resize((448, 448)))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "pair.png").write_bytes(encode(pair, "PNG"))
    assert run(tmp_path / "pictures", "--out", tmp_path / "largest").exit_code == 0
    assert [path.name for path in (tmp_path / "largest").iterdir()] == ["pair.png"]
    assert run(tmp_path / "pictures", "--out", tmp_path / "all", "--all-faces").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["pair-2.png", "pair.png"]


def test_pictures_without_a_face_or_unreadable_are_named_and_the_others_written(tmp_path: Path):
    source = tmp_path / "pictures"
    source.mkdir()
    (source / "face.jpg").write_bytes(ASTRONAUT.read_bytes())
    (source / "none.png").write_bytes(plain(300))
    (source / "broken.jpg").write_bytes(b"no picture")
    result = run(source, "--out", tmp_path / "crops", "--detector", "haar")
    assert result.exit_code == 1
    assert "broken.jpg: cannot be read" in str(result.exception)
    assert "none.png: no face was found" in str(result.exception)
    assert [path.name for path in (tmp_path / "crops").iterdir()] == ["face.png"]


def test_a_folder_that_is_not_empty_and_a_source_that_is_are_rejected(tmp_path: Path):
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "old.png").write_bytes(b"")
    assert "is not empty" in str(run(tmp_path, "--out", tmp_path / "crops").exception)
    (tmp_path / "empty").mkdir()
    assert "holds no file" in str(run(tmp_path / "empty", "--out", tmp_path / "new").exception)


def test_pictures_that_differ_by_their_ending_alone_do_not_overwrite_each_other(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    for name in ("a.jpg", "a.jpeg"):
        (tmp_path / "pictures" / name).write_bytes(ASTRONAUT.read_bytes())
    assert "is there already" in str(run(tmp_path / "pictures", "--out", tmp_path / "crops").exception)


def test_a_crop_survives_encoding():
    crop = noise(48, 48)
    assert np.array_equal(decode("x", encode_grey_png(crop)), crop)
