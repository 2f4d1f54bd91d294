"""Describes a picture by its header."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

_LYING: Final = range(5, 9)
"""Orientations of pictures whose sides are stored swapped."""


class ImageFormat(Enum):
    """The formats that are read."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WebP"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """A picture as its header describes it, before it is decoded.

    Attributes:
        format: How it is encoded.
        width: Width as stored, in pixels, 1 or more.
        height: Height as stored, in pixels, 1 or more.
        orientation: How it must be turned to be shown, 1 (not at all) to 8, as EXIF counts them.
        has_alpha: Whether pixels may be transparent.
        bits_per_sample: 1, 2, 4, 8 or 16.
        channel_count: Values per pixel that the decoder unpacks, 1-4; palettes count as 3.
        scan_count: Passes of the decoder over all pixels: 1, or the scans of a progressive JPEG.
    """

    format: ImageFormat
    width: int
    height: int
    orientation: int = 1
    has_alpha: bool = False
    bits_per_sample: int = 8
    channel_count: int = 3
    scan_count: int = 1

    @property
    def pixel_count(self) -> int:
        """Pixels to decode; turning the picture does not change them."""
        return self.width * self.height

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as shown, in pixels: turned by the orientation."""
        return (self.height, self.width) if self.orientation in _LYING else (self.width, self.height)
