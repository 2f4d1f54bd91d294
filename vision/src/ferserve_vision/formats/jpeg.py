"""Parses the segments of a JPEG (ITU-T T.81, annex B)."""

import re
import struct
from collections.abc import Iterator
from typing import Final

from ferserve_vision.errors import PictureUnreadableError
from ferserve_vision.formats.exif import UPRIGHT, read_orientation
from ferserve_vision.formats.header import ImageFormat, ImageHeader

SIGNATURE: Final = b"\xff\xd8"

MAX_SEGMENT_COUNT: Final = 2_000
"""Maximum number of segments. A 16 MiB colour profile fills 256; 4 MB of empty ones would take 0.5 s to walk."""

MAX_SCAN_COUNT: Final = 100
"""Maximum number of scans. Encoders write about 10; each costs a pass over all pixels, for a few bytes."""

_MARKER: Final = re.compile(rb"\xff++(.)", re.DOTALL)
_MARKER_AFTER_PIXELS: Final = re.compile(rb"\xff++([^\x00\xd0-\xd7])", re.DOTALL)
"""Markers that end the pixels of a scan: neither a stuffed zero nor a restart. The decoder stops at the same
ones."""

_START_OF_IMAGE: Final = 0xD8
_END_OF_IMAGE: Final = 0xD9
_SCAN_MARKER: Final = 0xDA
_EXIF_MARKER: Final = 0xE1
_BARE_MARKERS: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_MARKERS: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


def read_jpeg_header(data: bytes) -> ImageHeader:
    """Reads the header of a JPEG and walks its segments to the end marker that the decoder sees.

    Segments are skipped by their length, those between scans too: an end marker inside one is not the end.

    Time: linear in the size of `data`, with at most `MAX_SEGMENT_COUNT` steps in Python.

    Raises:
        PictureUnreadableError: Truncated, damaged, of an unsupported kind, or with more than `MAX_SCAN_COUNT`
            scans.
    """
    frame: bytes | None = None
    progressive = False
    orientation: int | None = None
    scan_count = 0
    for marker, payload in _segments(data):
        if marker in _FRAME_MARKERS:
            if frame is not None:
                raise PictureUnreadableError("the JPEG gives its size twice")
            frame, progressive = payload, marker in _PROGRESSIVE_MARKERS
        elif marker == _EXIF_MARKER and orientation is None and payload.startswith(b"Exif\x00\x00"):
            orientation = read_orientation(payload)
        elif marker == _SCAN_MARKER:
            scan_count += 1
            if scan_count > MAX_SCAN_COUNT:
                raise PictureUnreadableError(f"the JPEG has more than {MAX_SCAN_COUNT} scans")
    width, height, channel_count = _frame_size(frame)
    return ImageHeader(
        ImageFormat.JPEG,
        width,
        height,
        orientation=orientation or UPRIGHT,
        channel_count=channel_count,
        # A scan for each channel is one pass over the pixels in all, unless each is kept until the last.
        scan_count=scan_count if progressive or scan_count > channel_count else 1,
    )


def _frame_size(frame: bytes | None) -> tuple[int, int, int]:
    """Reads width, height and number of channels of a frame header.

    Raises:
        PictureUnreadableError: There is none, or of an unsupported kind.
    """
    if frame is None or len(frame) < 6:
        raise PictureUnreadableError("the JPEG does not give its size")
    bits, height, width, channel_count = struct.unpack_from(">BHHB", frame)
    if width == 0 or height == 0:
        raise PictureUnreadableError("the JPEG gives a width or height of 0")
    if bits != 8:
        raise PictureUnreadableError(f"the JPEG has {bits} bits a sample, 8 are read")
    if channel_count not in (1, 2, 3, 4):
        raise PictureUnreadableError(f"the JPEG has {channel_count} channels, 1 to 4 are read")
    return width, height, channel_count


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Walks to the end marker: marker and payload of each segment; pixels are passed over."""
    offset, after_scan = len(SIGNATURE), False
    for _ in range(MAX_SEGMENT_COUNT):
        found = _MARKER_AFTER_PIXELS.search(data, offset) if after_scan else _MARKER.match(data, offset)
        if found is None:
            raise PictureUnreadableError(_missing(data, offset, after_scan=after_scan))
        marker, start = found[1][0], found.end()
        if marker == _END_OF_IMAGE and after_scan:
            return
        if marker in (0x00, _START_OF_IMAGE, _END_OF_IMAGE):
            raise PictureUnreadableError(
                "the JPEG is damaged among its scans" if after_scan else "the JPEG is damaged before its pixels"
            )
        if marker in _BARE_MARKERS:
            offset = start
            continue
        offset = start + int.from_bytes(data[start : start + 2], "big")
        if offset > len(data) or start + 2 > len(data):
            raise PictureUnreadableError("the JPEG is truncated")
        if offset < start + 2:
            raise PictureUnreadableError("the JPEG has a segment without its length")
        yield marker, data[start + 2 : offset]
        after_scan = after_scan or marker == _SCAN_MARKER
    raise PictureUnreadableError(f"the JPEG has more than {MAX_SEGMENT_COUNT} segments")


def _missing(data: bytes, offset: int, *, after_scan: bool) -> str:
    """Says what is wrong where a marker was expected."""
    if after_scan:
        return "the JPEG is truncated: its end marker is missing"
    return "the JPEG is truncated" if offset >= len(data) - 1 else "the JPEG is damaged before its pixels"
