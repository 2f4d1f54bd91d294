"""Estimates the cost of decoding a picture from its header alone."""

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
        return coefficients + shown * (3 if header.channel_count == 4 else 1) + turned
    depth = 2 if header.bits_per_sample == 16 else 1
    if not header.has_alpha:
        decoded = 3 * pixels if header.format is ImageFormat.WEBP else depth * pixels
        own = 4 * pixels if header.format is ImageFormat.WEBP else 0
        return own + decoded + pixels + turned
    # As decoded with alpha, made 8 bits, its grey, its alpha and their product with 16 bits.
    own = 4 * pixels if header.format is ImageFormat.WEBP else 0
    return own + 4 * depth * pixels + (4 * pixels if depth == 2 else 0) + 6 * pixels + turned


def decode_ns(header: ImageHeader, reduction: int = 1) -> float:
    """Estimates the time that decoding takes on one core, in nanoseconds.

    The nanoseconds per pixel are upper medians of pictures of noise, which compress worst
    (benchmarks/decode_cost.py); photographs take a third to a half.
    """
    if header.format is ImageFormat.JPEG:
        per_scan = 6.0 if header.scan_count > 1 else 0.0
        return header.pixel_count * (8.0 / min(reduction, 2) + per_scan * header.scan_count)
    if header.format is ImageFormat.WEBP:
        return header.pixel_count * (30.0 + (15.0 if header.has_alpha else 0.0))
    depth = 2 if header.bits_per_sample == 16 else 1
    return header.pixel_count * (6.0 * header.channel_count * depth + (20.0 if header.has_alpha else 0.0))
