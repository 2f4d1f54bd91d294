"""The segments of a JPEG (ITU-T T.81, annex B)."""

import re
import struct
from collections.abc import Iterator
from typing import Final

from ferserve_server.domain.errors import ImageUnreadableError
from ferserve_server.vision.exif import UPRIGHT, read_orientation
from ferserve_server.vision.header import ImageFormat, ImageHeader

SIGNATURE: Final = b"\xff\xd8"

MAX_SEGMENT_COUNT: Final = 2_000
"""Segments before the pixels. A 16 MiB colour profile fills 256; 4 MB of empty ones would take 0.5 s to walk."""

MAX_SCAN_COUNT: Final = 100
"""Scans. Encoders write about 10; every further one costs a pass over all pixels, for a few bytes each."""

_END: Final = b"\xff\xd9"
_SCAN: Final = b"\xff\xda"
_MARKER: Final = re.compile(rb"\xff++(.)", re.DOTALL)
_SCAN_MARKER: Final = 0xDA
_EXIF_MARKER: Final = 0xE1
_BARE_MARKERS: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_MISPLACED_MARKERS: Final = frozenset({0x00, 0xD8, 0xD9})
_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_jpeg_header(data: bytes) -> ImageHeader:
    """Reads the header of a JPEG and checks that it is there to its end.

    Time: linear in the size of `data`, with at most `MAX_SEGMENT_COUNT` steps in Python.

    Raises:
        ImageUnreadableError: Truncated, damaged, or of a kind that is not read.
    """
    frame: bytes | None = None
    orientation: int | None = None
    for marker, payload, end in _segments(data):
        if marker in _FRAME_MARKERS:
            if frame is not None:
                raise ImageUnreadableError("the JPEG gives its size twice")
            frame = payload
        elif marker == _EXIF_MARKER and orientation is None and payload.startswith(b"Exif\x00\x00"):
            orientation = read_orientation(payload)
        elif marker == _SCAN_MARKER:
            _check_scans(data, end)
    if frame is None or len(frame) < 6:
        raise ImageUnreadableError("the JPEG does not give its size")
    bits, height, width, _ = struct.unpack_from(">BHHB", frame)
    if width == 0 or height == 0:
        raise ImageUnreadableError("the JPEG gives a width or height of 0")
    if bits != 8:
        raise ImageUnreadableError(f"the JPEG has {bits} bits a sample, 8 are read")
    return ImageHeader(ImageFormat.JPEG, width, height, orientation=orientation or UPRIGHT)


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Walks to the first scan, that included: marker, payload, and the offset after it."""
    offset = len(SIGNATURE)
    for _ in range(MAX_SEGMENT_COUNT):
        found = _MARKER.match(data, offset)
        if found is None:
            raise ImageUnreadableError(
                "the JPEG is truncated" if offset >= len(data) - 1 else "the JPEG is damaged before its pixels"
            )
        marker, start = found[1][0], found.end()
        if marker in _MISPLACED_MARKERS:
            raise ImageUnreadableError("the JPEG is damaged before its pixels")
        if marker in _BARE_MARKERS:
            offset = start
            continue
        offset = start + int.from_bytes(data[start : start + 2], "big")
        if offset > len(data) or start + 2 > len(data):
            raise ImageUnreadableError("the JPEG is truncated")
        if offset < start + 2:
            raise ImageUnreadableError("the JPEG is damaged before its pixels")
        yield marker, data[start + 2 : offset], offset
        if marker == _SCAN_MARKER:
            return
    raise ImageUnreadableError(f"the JPEG has more than {MAX_SEGMENT_COUNT} segments before its pixels")


def _check_scans(data: bytes, start: int) -> None:
    """Looks for the end of the picture after `start`, where the pixels of its first scan begin.

    In the pixels FF is always followed by 00 or a restart marker, so that FF D9 is the end and FF DA a scan.
    """
    end = data.find(_END, start)
    if end < 0:
        raise ImageUnreadableError("the JPEG is truncated: its end marker is missing")
    scan_count = 1 + data.count(_SCAN, start, end)
    if scan_count > MAX_SCAN_COUNT:
        raise ImageUnreadableError(f"the JPEG has {scan_count} scans, {MAX_SCAN_COUNT} are read")
