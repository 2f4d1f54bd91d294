"""The one tag of EXIF that changes what a picture shows: how the camera was held."""

import struct
from typing import Final

UPRIGHT: Final = 1

_PREFIX: Final = b"Exif\x00\x00"
_ORIENTATION_TAG: Final = 0x0112
_SHORT_TYPE: Final = 3
_ENTRY_BYTES: Final = 12


def read_orientation(block: bytes) -> int:
    """Reads the orientation from a block of EXIF.

    Source: Exif 2.32, 4.5.2 and 4.6.4 A; the block is a TIFF file, with or without the prefix
    that it has in a JPEG.

    Args:
        block: Bytes of any content.

    Returns:
        1 to 8; 1 for a block that is damaged or does not say. A picture is never rejected for its EXIF.
    """
    tiff = block.removeprefix(_PREFIX)
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return UPRIGHT
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return UPRIGHT
    (entry_count,) = struct.unpack_from(f"{order}H", tiff, start)
    first = start + 2
    last = min(first + entry_count * _ENTRY_BYTES, len(tiff) - _ENTRY_BYTES + 1)
    for offset in range(first, last, _ENTRY_BYTES):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, offset)
        if tag == _ORIENTATION_TAG:
            return value if kind == _SHORT_TYPE and 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
