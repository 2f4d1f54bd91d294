"""Tests decoding from bytes to grey pixels."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from ferserve_vision.decode import decode_grey
from ferserve_vision.errors import PictureFormatError, PictureTooLargeError, PictureUnreadableError
from support.pictures import (
    animated,
    bomb_png,
    corner_mark,
    encode,
    encode_image,
    noise,
    png_chunk,
    ramp,
)

KINDS = ("JPEG", "PNG", "WEBP")
PLENTY = 1_000_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_rotated_picture_is_turned_as_shown(kind: str, orientation: int):
    data = encode(corner_mark(60, 40), kind, orientation=orientation)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("L"))
    grey = decode_grey(data, PLENTY)
    assert grey.shape == ((40, 60) if orientation < 5 else (60, 40))
    assert grey.flags.c_contiguous
    assert np.abs(grey.astype(int) - shown).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_with_alpha_is_turned_too(kind: str):
    rgba = np.dstack([corner_mark(60, 40)] * 3 + [np.full((40, 60), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    grey = decode_grey(encode(rgba, kind, orientation=6), PLENTY)
    assert grey.shape == (60, 40)
    assert grey[0, 39] == 255
    assert (grey[1:30, 20:] == 20).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparent_pixels_lie_on_white(kind: str):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 3] = np.repeat(np.array([0, 51, 102, 255], np.uint8), 2)
    grey = decode_grey(encode(rgba, kind), PLENTY)
    assert grey[0].tolist() == [255, 255, 204, 204, 153, 153, 0, 0]


def test_a_palette_png_with_a_transparent_colour_lies_on_white():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 90, 90, 90])
    image.putpixel((0, 0), 0)
    grey = decode_grey(encode_image(image, "PNG", transparency=0), PLENTY)
    assert grey[0, :2].tolist() == [255, 90]


def test_a_grey_png_with_alpha_lies_on_white():
    image = Image.new("LA", (8, 8), (100, 0))
    assert (decode_grey(encode_image(image, "PNG"), PLENTY) == 255).all()


def test_a_16_bit_png_is_scaled_to_8_bits():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    grey = decode_grey(encode_image(Image.fromarray(levels), "PNG"), PLENTY)
    assert grey.dtype == np.uint8
    assert np.array_equal(grey, np.round(levels / 257).astype(np.uint8))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_png_of_every_mode_keeps_its_levels(mode: str):
    white_on_black = np.zeros((9, 9), np.uint8)
    white_on_black[3:6] = 255
    image = Image.fromarray(white_on_black).convert(mode)
    assert np.array_equal(decode_grey(encode_image(image, "PNG"), PLENTY), white_on_black)


def test_a_grey_jpeg_keeps_its_levels():
    assert np.abs(decode_grey(encode(ramp(), quality=95), PLENTY).astype(int) - ramp()).max() <= 3


def test_a_progressive_jpeg_is_read():
    data = encode(ramp(), quality=95, progressive=True)
    assert np.abs(decode_grey(data, PLENTY).astype(int) - ramp()).max() <= 3


def test_a_cmyk_jpeg_looks_as_elsewhere():
    image = Image.fromarray(np.dstack([ramp()] * 3)).convert("CMYK")
    data = encode_image(image, "JPEG", quality=95)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert np.abs(decode_grey(data, PLENTY).astype(int) - shown).max() <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_one_pixel_is_a_picture(kind: str):
    grey = decode_grey(encode(np.full((1, 1), 77, np.uint8), kind), 1)
    assert grey.shape == (1, 1)
    assert abs(int(grey[0, 0]) - 77) <= 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(kind: str):
    assert (decode_grey(animated(kind, (90, 180, 250)), PLENTY) == 90).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixel_limit_allows_the_limit_itself(kind: str):
    data = encode(noise(40, 30), kind)
    assert decode_grey(data, 1200).shape == (30, 40)
    with pytest.raises(PictureTooLargeError, match="40x30") as raised:
        decode_grey(data, 1199)
    assert (raised.value.pixel_count, raised.value.max_pixels) == (1200, 1199)


def test_a_decompression_bomb_is_rejected_by_its_header():
    with pytest.raises(PictureTooLargeError, match="60000x60000"):
        decode_grey(bomb_png(), 24_000_000)


def test_a_jpeg_bomb_is_rejected_by_its_header():
    data = bytearray(encode(noise(16, 16)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(PictureTooLargeError, match="65535x65535"):
        decode_grey(bytes(data), 24_000_000)


def test_a_webp_whose_frame_is_larger_than_its_canvas_is_rejected():
    data = bytearray(encode_image(Image.new("RGBA", (400, 300), (1, 2, 3, 4)), "WEBP", lossless=False))
    canvas = data.index(b"VP8X") + 12
    data[canvas : canvas + 6] = b"\x09\x00\x00\x09\x00\x00"
    with pytest.raises(PictureUnreadableError):
        decode_grey(bytes(data), 100)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_picture_is_rejected_not_half_grey(kind: str, share: float):
    data = encode(noise(200, 200), kind)
    with pytest.raises(PictureUnreadableError, match="truncated"):
        decode_grey(data[: int(len(data) * share)], PLENTY)


def test_text_and_nothing_are_no_pictures():
    for data in (b"", b"not a picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        with pytest.raises(PictureFormatError):
            decode_grey(data, PLENTY)


def test_a_broken_picture_writes_nothing_to_stderr(capfd: pytest.CaptureFixture[str]):
    flipped = bytearray(encode(noise(40, 30), "PNG"))
    flipped[len(flipped) // 2] ^= 1
    odd_profile = encode(noise(40, 30), "PNG", icc_profile=b"no profile at all")
    without_tables = encode(noise(40, 30)).replace(b"\xff\xdb", b"\xff\xfe")
    broken = [bytes(flipped), without_tables, *(encode(noise(40, 30), kind)[:300] for kind in KINDS)]
    for data in broken:
        with pytest.raises(PictureUnreadableError):
            decode_grey(data, PLENTY)
    decode_grey(odd_profile, PLENTY)
    assert capfd.readouterr() == ("", "")


def test_a_png_whose_checksums_are_right_and_pixels_wrong_is_rejected():
    whole = encode(noise(40, 30), "PNG")
    end = png_chunk(b"IEND", b"")
    broken = whole[: whole.index(b"IDAT") - 4] + png_chunk(b"IDAT", b"no zlib stream") + end
    with pytest.raises(PictureUnreadableError, match="pixel data is damaged"):
        decode_grey(broken, PLENTY)
