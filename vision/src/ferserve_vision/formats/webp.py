"""Parses the chunks of a WebP (RFC 9649)."""

import struct
from collections.abc import Iterator
from typing import Final

from ferserve_vision.errors import PictureUnreadableError
from ferserve_vision.formats.exif import UPRIGHT, read_orientation
from ferserve_vision.formats.header import ImageFormat, ImageHeader

MAX_CHUNK_COUNT: Final = 20_000
"""Maximum number of chunks: one for each frame of an animation and a few more. Walking so many takes about 10
ms."""

_HEADER_BYTES: Final = 12
_LOSSY_START_CODE: Final = b"\x9d\x01\x2a"
_LOSSLESS_SIGNATURE: Final = 0x2F
_ALPHA_FLAG: Final = 0x10


def is_webp(data: bytes) -> bool:
    """Tells whether `data` begins as a WebP."""
    return data[:4] == b"RIFF" and data[8:_HEADER_BYTES] == b"WEBP"


def read_webp_header(data: bytes) -> ImageHeader:
    """Reads the header of a WebP and checks that it is there to its end.

    Of an animation the canvas is the picture; its first frame is what gets decoded.

    Raises:
        PictureUnreadableError: Truncated, damaged, or of a kind that is not read.
    """
    chunks = list(_chunks(data))
    if not chunks:
        raise PictureUnreadableError("the WebP has no pixels")
    name, payload = chunks[0]
    if name == b"VP8X" and len(payload) >= 10:
        width = 1 + int.from_bytes(payload[4:7], "little")
        height = 1 + int.from_bytes(payload[7:10], "little")
        has_alpha = bool(payload[0] & _ALPHA_FLAG)
    elif name == b"VP8L" and len(payload) >= 5 and payload[0] == _LOSSLESS_SIGNATURE:
        bits = int.from_bytes(payload[1:5], "little")
        width, height, has_alpha = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    elif name == b"VP8 " and len(payload) >= 10 and payload[3:6] == _LOSSY_START_CODE:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", payload, 6))
        has_alpha = False
    else:
        raise PictureUnreadableError("the WebP does not begin with its header")
    if width == 0 or height == 0:
        raise PictureUnreadableError("the WebP gives a width or height of 0")
    orientation = next((read_orientation(part) for kind, part in chunks if kind == b"EXIF"), UPRIGHT)
    return ImageHeader(
        ImageFormat.WEBP, width, height, orientation, has_alpha, channel_count=4 if has_alpha else 3
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Walks the chunks inside the RIFF: name and payload."""
    file_end = 8 + int.from_bytes(data[4:8], "little")
    if file_end > len(data):
        raise PictureUnreadableError("the WebP is truncated")
    offset = _HEADER_BYTES
    for _ in range(MAX_CHUNK_COUNT):
        if offset + 8 > file_end:
            return
        name, length = struct.unpack_from("<4sI", data, offset)
        end = offset + 8 + length
        if end > file_end:
            raise PictureUnreadableError("the WebP is truncated")
        yield name, data[offset + 8 : end]
        offset = end + (length & 1)
    raise PictureUnreadableError(f"the WebP has more than {MAX_CHUNK_COUNT} chunks")
