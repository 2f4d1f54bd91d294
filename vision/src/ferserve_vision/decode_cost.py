"""Estimates the cost of decoding a picture from its header and its size in bytes.

The constants are fitted to pictures of noise, which cost most, and of one colour, on one core of a server of 2023;
tests/unit/test_vision_decode_cost.py compares them with what decoding takes. Photographs take a third to a half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_vision.formats.header import ImageFormat
from ferserve_vision.reduction import reduced

if TYPE_CHECKING:
    from ferserve_vision.formats.header import ImageHeader


def decode_bytes(header: ImageHeader, reduction: int = 1) -> int:
    """Estimates the memory that decoding takes at its peak, in bytes, the compressed picture not counted.

    Sums what OpenCV and its codecs hold at once: the decoder's own planes, the picture that it hands out, and the
    copies that transparency, 16-bit levels and rotation take.
    """
    pixels = header.pixel_count
    shown = reduced(header.width, reduction) * reduced(header.height, reduction)
    turned = shown if header.orientation > 1 else 0
    if header.format is ImageFormat.JPEG:
        # Progressive JPEGs keep all coefficients, 2 bytes each, until the last scan.
        coefficients = 2 * header.channel_count * pixels if header.scan_count > 1 else 0
        return coefficients + 3 * shown + turned
    per_pixel = (16 if header.has_alpha else 8) if header.format is ImageFormat.WEBP else _png_bytes(header)
    return per_pixel * pixels + turned


def _png_bytes(header: ImageHeader) -> int:
    """Estimates the bytes for each pixel of a PNG."""
    depth = 2 if header.bits_per_sample == 16 else 1
    return 12 + 4 * depth if header.has_alpha else 4 * depth


def decode_ns(header: ImageHeader, byte_count: int) -> float:
    """Estimates the time that decoding takes on one core, in nanoseconds.

    Args:
        header: The picture.
        byte_count: Its size, encoded: what is drawn from each byte costs more than what each pixel costs.
    """
    pixels = header.pixel_count
    if header.format is ImageFormat.JPEG:
        scans = 2.0 * pixels * header.scan_count if header.scan_count > 1 else 0.0
        return pixels * (4.0 + 3.0 * header.channel_count) + scans + 10.0 * byte_count
    if header.format is ImageFormat.WEBP:
        return pixels * (20.0 if header.has_alpha else 10.0) + 60.0 * byte_count
    depth = 2 if header.bits_per_sample == 16 else 1
    return pixels * (3.6 * header.channel_count * depth + (14.0 if header.has_alpha else 0.0))
