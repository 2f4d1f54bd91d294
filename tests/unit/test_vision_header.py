"""Tests reading a picture's properties without decoding it."""

import struct
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ferserve_vision.decode import decode_grey
from ferserve_vision.errors import PictureFormatError, PictureUnreadableError
from ferserve_vision.formats import jpeg, png
from ferserve_vision.formats.exif import read_orientation
from ferserve_vision.formats.header import ImageFormat, ImageHeader
from ferserve_vision.formats.sniff import read_header
from support.pictures import animated, corner_mark, encode, encode_image, noise, png_chunk

KINDS = ("JPEG", "PNG", "WEBP")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("data", "header"),
    [
        pytest.param(encode(noise(31, 17)), ImageHeader(ImageFormat.JPEG, 31, 17), id="baseline JPEG"),
        pytest.param(
            encode(noise(31, 17), progressive=True), ImageHeader(ImageFormat.JPEG, 31, 17), id="progressive JPEG"
        ),
        pytest.param(encode(noise(31, 17), "PNG"), ImageHeader(ImageFormat.PNG, 31, 17), id="grey PNG"),
        pytest.param(
            encode_image(Image.new("RGBA", (5, 6)), "PNG"),
            ImageHeader(ImageFormat.PNG, 5, 6, has_alpha=True),
            id="PNG with alpha",
        ),
        pytest.param(
            encode_image(Image.new("I;16", (5, 6)), "PNG"),
            ImageHeader(ImageFormat.PNG, 5, 6, bits_per_sample=16),
            id="16-bit PNG",
        ),
        pytest.param(
            encode_image(Image.new("P", (5, 6)), "PNG", transparency=0),
            ImageHeader(ImageFormat.PNG, 5, 6, has_alpha=True, bits_per_sample=1),
            id="palette PNG with a transparent colour",
        ),
        pytest.param(
            encode_image(Image.new("RGB", (33, 7)), "WEBP", lossless=False),
            ImageHeader(ImageFormat.WEBP, 33, 7),
            id="lossy WebP",
        ),
        pytest.param(
            encode_image(Image.new("RGB", (33, 7)), "WEBP"),
            ImageHeader(ImageFormat.WEBP, 33, 7),
            id="lossless WebP",
        ),
        pytest.param(
            encode_image(Image.new("RGBA", (33, 7), (1, 2, 3, 4)), "WEBP"),
            ImageHeader(ImageFormat.WEBP, 33, 7, has_alpha=True),
            id="lossless WebP with alpha",
        ),
        pytest.param(
            encode_image(Image.new("RGBA", (33, 7), (1, 2, 3, 4)), "WEBP", lossless=False),
            ImageHeader(ImageFormat.WEBP, 33, 7, has_alpha=True),
            id="lossy WebP with alpha",
        ),
        pytest.param(animated("WEBP"), ImageHeader(ImageFormat.WEBP, 20, 20), id="animated WebP"),
    ],
)
def test_a_header_tells_format_size_alpha_and_depth(data: bytes, header: ImageHeader):
    assert replace(read_header(data), channel_count=3, scan_count=1) == header


@pytest.mark.parametrize(
    ("data", "channel_count", "several_scans"),
    [
        pytest.param(encode(noise(31, 17)), 1, False, id="grey JPEG"),
        pytest.param(encode(np.dstack([noise(31, 17)] * 3)), 3, False, id="colour JPEG"),
        pytest.param(encode(np.dstack([noise(31, 17)] * 3), progressive=True), 3, True, id="progressive JPEG"),
        pytest.param(encode(noise(31, 17), "PNG"), 1, False, id="grey PNG"),
        pytest.param(encode_image(Image.new("LA", (5, 6)), "PNG"), 2, False, id="grey PNG with alpha"),
        pytest.param(encode_image(Image.new("RGBA", (5, 6)), "PNG"), 4, False, id="RGBA PNG"),
        pytest.param(
            encode_image(Image.new("P", (5, 6)), "PNG", transparency=0), 4, False, id="palette, transparent"
        ),
        pytest.param(encode(noise(33, 7), "WEBP"), 3, False, id="WebP"),
    ],
)
def test_a_header_says_what_decoding_costs(data: bytes, channel_count: int, several_scans: bool):
    header = read_header(data)
    assert header.channel_count == channel_count
    assert (header.scan_count > 1) == several_scans


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_header_tells_how_the_camera_was_held(kind: str, orientation: int):
    header = read_header(encode(corner_mark(60, 40), kind, orientation=orientation))
    assert (header.orientation, header.width, header.height) == (orientation, 60, 40)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_of_exif_are_read(order: str):
    mark = b"II*\x00" if order == "<" else b"MM\x00*"
    block = mark + struct.pack(f"{order}IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0)
    assert read_orientation(block) == 6
    assert read_orientation(b"Exif\x00\x00" + block) == 6


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\x00",
        b"XX*\x00" + bytes(20),
        b"II*\x00" + struct.pack("<I", 2**32 - 1),
        b"II*\x00" + struct.pack("<IH", 8, 65535),
        b"II*\x00" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, 9, 0),
        b"II*\x00" + struct.pack("<IHHHII", 8, 1, 0x0112, 4, 1, 6),
        b"II*\x00" + struct.pack("<IHHHIHH", 8, 1, 0x0110, 3, 1, 6, 0),
    ],
)
def test_broken_exif_leaves_the_picture_as_it_is(block: bytes):
    assert read_orientation(block) == 1


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (b"", "no bytes"),
        (b"hello, I am no picture", "text"),
        (b"GIF89a" + bytes(20), "GIF"),
        (b"BM" + bytes(20), "BMP"),
        (b"II*\x00" + bytes(20), "TIFF"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(20), "HEIC"),
        (b"\x00\x00\x00\x18ftypavif" + bytes(20), "AVIF"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(20), "MP4"),
        (b"%PDF-1.7", "PDF"),
        (b"/9j/4AAQSkZJRgABAQ", "base64"),
        (b"data:image/jpeg;base64,/9j/", "data: URL"),
        (b"RIFF\x10\x00\x00\x00AVI LIST", "AVI"),
        (bytes(range(128, 160)), "no known format"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, looks_like: str):
    with pytest.raises(PictureFormatError, match=looks_like):
        read_header(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_cut_anywhere_is_rejected(kind: str):
    data = encode(noise(40, 30), kind)
    for length in range(12, len(data), 7):
        with pytest.raises(PictureUnreadableError):
            read_header(data[:length])


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_after_the_end_of_a_picture_do_not_matter(kind: str):
    data = encode(noise(40, 30), kind)
    assert read_header(data + b"a phone's motion photo") == read_header(data)


def test_a_flipped_bit_in_a_png_is_found():
    data = bytearray(encode(noise(40, 30), "PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(PictureUnreadableError, match="checksum"):
        read_header(bytes(data))


@pytest.mark.parametrize(
    ("header", "pixels", "why"),
    [
        (struct.pack(">IIBBBBB", 0, 5, 8, 0, 0, 0, 0), b"IDAT", "0x5"),
        (struct.pack(">IIBBBBB", 2**31 - 1, 1, 8, 0, 0, 0, 0), b"IDAT", "sides of 1 to 65535"),
        (struct.pack(">IIBBBBB", 5, 5, 3, 0, 0, 0, 0), b"IDAT", "kind"),
        (struct.pack(">IIBBBBB", 5, 5, 8, 5, 0, 0, 0), b"IDAT", "kind"),
        (struct.pack(">IIBBBBB", 5, 5, 8, 0, 0, 0, 2), b"IDAT", "kind"),
        (struct.pack(">IIBBBBB", 5, 5, 8, 3, 0, 0, 0), b"IDAT", "palette"),
        (struct.pack(">IIBBBBB", 5, 5, 8, 0, 0, 0, 0), b"teXt", "no pixels"),
        (struct.pack(">IIBBBBB", 5, 5, 8, 0, 0, 0, 0), b"CgBI", "kind"),
        (b"short", b"IDAT", "header"),
    ],
)
def test_a_png_of_no_known_kind_is_rejected(header: bytes, pixels: bytes, why: str):
    data = PNG_SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(pixels, b"") + png_chunk(b"IEND", b"")
    with pytest.raises(PictureUnreadableError, match=why):
        read_header(data)


def jpeg_of(*segments: tuple[int, bytes], end: bytes = b"\xff\xd9") -> bytes:
    return (
        b"\xff\xd8"
        + b"".join(
            b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments
        )
        + end
    )


FRAME = (0xC0, struct.pack(">BHHB", 8, 4, 6, 1) + b"\x01\x11\x00")
PROGRESSIVE_FRAME = (0xC2, struct.pack(">BHHB", 8, 4, 6, 3) + bytes(9))
SCAN = (0xDA, b"\x01\x01\x00\x00\x3f\x00")


def test_fill_bytes_and_bare_markers_between_segments_are_passed():
    data = jpeg_of(FRAME, SCAN)
    padded = data[:2] + b"\xff\xff\xff\x01\xff\xd3" + data[2:]
    assert read_header(padded) == read_header(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (jpeg_of(SCAN), "does not give its size"),
        (jpeg_of(FRAME, FRAME, SCAN), "twice"),
        (jpeg_of((0xC0, struct.pack(">BHHB", 8, 0, 6, 1)), SCAN), "of 0"),
        (jpeg_of((0xC1, struct.pack(">BHHB", 12, 4, 6, 1)), SCAN), "12 bits"),
        (jpeg_of((0xC0, b"\x08\x00"), SCAN), "does not give its size"),
        (jpeg_of(FRAME), "damaged before its pixels"),
        (jpeg_of(FRAME, SCAN, end=b""), "end marker is missing"),
        (jpeg_of(FRAME, SCAN, end=b"\xff\xfe\x00\x01\xff\xd9"), "without its length"),
        (jpeg_of(FRAME, SCAN, end=b"\xff\xd8\xff\xd9"), "among its scans"),
        (jpeg_of((0xC0, struct.pack(">BHHB", 8, 4, 6, 9)), SCAN), "9 channels"),
        (b"\xff\xd8\xff\xe0\x00\x01" + bytes(9), "without its length"),
        (b"\xff\xd8garbage that is no segment", "damaged"),
        (b"\xff\xd8" + b"\xff" * 1000, "damaged|truncated"),
    ],
)
def test_a_damaged_jpeg_is_rejected(data: bytes, why: str):
    with pytest.raises(PictureUnreadableError, match=why):
        read_header(data)


def test_a_jpeg_with_more_scans_than_encoders_write_is_rejected():
    data = jpeg_of(FRAME, *[SCAN] * (jpeg.MAX_SCAN_COUNT + 1))
    with pytest.raises(PictureUnreadableError, match="more than 100 scans"):
        read_header(data)
    assert read_header(jpeg_of(FRAME, *[SCAN] * jpeg.MAX_SCAN_COUNT)).width == 6


def test_scans_behind_an_end_marker_inside_a_comment_are_counted():
    hidden = (0xFE, b"the end? \xff\xd9")
    data = jpeg_of(PROGRESSIVE_FRAME, SCAN, hidden, *[SCAN] * 98)
    assert read_header(data).scan_count == 99
    with pytest.raises(PictureUnreadableError, match="more than 100 scans"):
        read_header(jpeg_of(PROGRESSIVE_FRAME, SCAN, hidden, *[SCAN] * jpeg.MAX_SCAN_COUNT))


def test_the_end_is_where_the_decoder_sees_it_not_in_what_follows():
    assert read_header(jpeg_of(PROGRESSIVE_FRAME, SCAN) + b"\xff\xda" * 500).scan_count == 1


def test_one_scan_per_channel_of_a_baseline_jpeg_is_one_pass():
    frame = (0xC0, struct.pack(">BHHB", 8, 4, 6, 3) + bytes(9))
    assert read_header(jpeg_of(frame, SCAN, SCAN, SCAN)).scan_count == 1
    assert read_header(jpeg_of(frame, *[SCAN] * 9)).scan_count == 9


def test_a_damaged_checksum_of_a_text_in_a_png_does_not_matter():
    whole = encode(noise(40, 30), "PNG")
    text = bytearray(png_chunk(b"tEXt", b"Comment\x00a text"))
    text[-1] ^= 0xFF
    data = whole[:33] + bytes(text) + whole[33:]
    assert read_header(data) == read_header(whole)
    assert np.array_equal(decode_grey(data, 10**6), decode_grey(whole, 10**6))


def test_a_webp_of_no_known_kind_is_rejected():
    def webp_of(name: bytes, payload: bytes) -> bytes:
        body = b"WEBP" + name + struct.pack("<I", len(payload)) + payload
        return b"RIFF" + struct.pack("<I", len(body)) + body

    for data in (
        webp_of(b"VP8L", b"\x00" * 5),
        webp_of(b"VP8 ", b"\x00" * 10),
        webp_of(b"VP8X", b"\x00" * 9),
        webp_of(b"NONE", b""),
        b"RIFF\x04\x00\x00\x00WEBP",
        webp_of(b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a\x00\x00\x05\x00"),
    ):
        with pytest.raises(PictureUnreadableError):
            read_header(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xd8" + b"\xff\xfe\x00\x02" * 1_000_000, id="JPEG of empty segments"),
        pytest.param(b"\xff\xd8" + b"\xff" * 4_000_000, id="JPEG of fill bytes"),
        pytest.param(jpeg_of(FRAME, SCAN, end=b"\xff\x00" * 2_000_000), id="JPEG of stuffed bytes"),
        pytest.param(PNG_SIGNATURE + png_chunk(b"teXt", b"") * 330_000, id="PNG of empty chunks"),
        pytest.param(b"RIFF\x04\x86\x3d\x00WEBP" + b"NONE\x00\x00\x00\x00" * 504_000, id="WebP of empty chunks"),
    ],
)
def test_four_megabytes_of_nothing_are_rejected_fast(data: bytes):
    started = time.process_time()
    with pytest.raises(PictureUnreadableError, match=r"more than|damaged|missing"):
        read_header(data)
    assert time.process_time() - started < 0.5


def test_a_png_is_stripped_of_all_but_its_pixels():
    data = encode(noise(9, 9), "PNG", icc_profile=b"a profile that libpng would complain of", orientation=6)
    stripped = png.strip_ancillary_chunks(data, keep_transparency=False)
    assert b"iCCP" in data
    assert b"eXIf" in data
    assert b"iCCP" not in stripped
    assert b"eXIf" not in stripped
    assert read_header(stripped) == ImageHeader(ImageFormat.PNG, 9, 9, channel_count=1)
