"""Parses the chunks of a PNG (W3C PNG Specification, third edition, 5 and 11)."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from ferserve_vision.errors import PictureUnreadableError
from ferserve_vision.formats.exif import read_orientation
from ferserve_vision.formats.header import ImageFormat, ImageHeader

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

MAX_CHUNK_COUNT: Final = 20_000
"""Maximum number of chunks. Encoders cut pixels into chunks of 8 KiB or more: 160 MB. Walking them takes 30 ms."""

MAX_SIDE_PIXELS: Final = 65_535
"""As a JPEG's. PNG itself allows 2**31 - 1, the decoder less."""

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_BITS_BY_COLOUR: Final = {
    _GREY: (1, 2, 4, 8, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _GREY_ALPHA: (8, 16),
    _RGB_ALPHA: (8, 16),
}
_METHODS: Final = ((0, 0, 0), (0, 0, 1))
_HEADER_BYTES: Final = 13
_COLOUR_OFFSET: Final = 25
_CRITICAL: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_ANCILLARY_BIT: Final = 0x20
_TRANSPARENCY: Final = b"tRNS"


def read_png_header(data: bytes) -> ImageHeader:
    """Reads the header of a PNG and checks that its chunks are there to the last, those of the pixels undamaged.

    Texts, profiles and the like that are damaged are passed over, as they change no pixel.

    Raises:
        PictureUnreadableError: Truncated, damaged, or of a kind that is not read.
    """
    chunks = list(_chunks(data))
    names = [name for name, _, _ in chunks]
    if names[0] != b"IHDR" or names.count(b"IHDR") != 1 or chunks[0][2] - chunks[0][1] != _HEADER_BYTES:
        raise PictureUnreadableError("the PNG does not begin with its header")
    width, height, bits, colour, *methods = struct.unpack_from(">IIBBBBB", data, chunks[0][1])
    if not (0 < width <= MAX_SIDE_PIXELS and 0 < height <= MAX_SIDE_PIXELS):
        raise PictureUnreadableError(f"the PNG is {width}x{height}, sides of 1 to {MAX_SIDE_PIXELS} are read")
    if bits not in _BITS_BY_COLOUR.get(colour, ()) or tuple(methods) not in _METHODS:
        raise PictureUnreadableError("the PNG is of a kind that PNG does not know")
    if b"IDAT" not in names:
        raise PictureUnreadableError("the PNG has no pixels")
    before_pixels = {name: end - start for name, start, end in chunks[: names.index(b"IDAT")]}
    palette_bytes = before_pixels.get(b"PLTE", 0)
    if colour == _PALETTE and (palette_bytes % 3 or not 3 <= palette_bytes <= 3 * 2**bits):
        raise PictureUnreadableError("the PNG lacks its palette")
    has_alpha = colour in (_GREY_ALPHA, _RGB_ALPHA) or (colour in (_RGB, _PALETTE) and b"tRNS" in before_pixels)
    exif = next((data[start:end] for name, start, end in chunks if name == b"eXIf"), b"")
    channels = {_GREY: 1, _GREY_ALPHA: 2}.get(colour, 3) + (has_alpha and colour in (_RGB, _PALETTE, _RGB_ALPHA))
    return ImageHeader(ImageFormat.PNG, width, height, read_orientation(exif), has_alpha, bits, channels)


def strip_ancillary_chunks(data: bytes, *, keep_transparency: bool) -> bytes:
    """Copies a PNG without what its grey levels do not depend on: profiles, texts, animation.

    The decoder then reads nothing but pixels, and has nothing to complain of (libpng writes to stderr, for
    example of colour profiles that most viewers accept). Of an animation the picture for viewers that know
    none is left, commonly its first frame.

    Args:
        data: A PNG that `read_png_header` accepts.
        keep_transparency: Whether the transparent colours of a palette or of RGB are kept.
    """
    kept = {b"IHDR", b"IDAT", b"IEND"}
    if data[_COLOUR_OFFSET] == _PALETTE:
        kept.add(b"PLTE")
    if keep_transparency:
        kept.add(b"tRNS")
    view = memoryview(data)
    return SIGNATURE + b"".join(
        view[start - 8 : end + 4] for name, start, end in _chunks(data, checked=True) if name in kept
    )


def _chunks(data: bytes, *, checked: bool = False) -> Iterator[tuple[bytes, int, int]]:
    """Walks to the end chunk, that included: name, and the start and end of the payload."""
    offset, view = len(SIGNATURE), memoryview(data)
    for _ in range(MAX_CHUNK_COUNT):
        start = offset + 8
        if start > len(data):
            raise PictureUnreadableError("the PNG is truncated")
        length, name = struct.unpack_from(">I4s", data, offset)
        end = start + length
        if end + 4 > len(data):
            raise PictureUnreadableError("the PNG is truncated")
        if name not in _CRITICAL and not name[0] & _ANCILLARY_BIT:
            raise PictureUnreadableError("the PNG is of a kind that PNG does not know")
        if checked or zlib.crc32(view[start - 4 : end]) == int.from_bytes(view[end : end + 4], "big"):
            yield name, start, end
        elif name in _CRITICAL or name == _TRANSPARENCY:
            raise PictureUnreadableError("the PNG is damaged: a checksum does not match")
        if name == b"IEND":
            return
        offset = end + 4
    raise PictureUnreadableError(f"the PNG has more than {MAX_CHUNK_COUNT} chunks")
