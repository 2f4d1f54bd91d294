"""Decodes pictures to grey levels, and rejects what is too large or broken before a decoder sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ferserve_vision.errors import PictureTooLargeError, PictureUnreadableError
from ferserve_vision.formats.header import ImageFormat
from ferserve_vision.formats.png import strip_ancillary_chunks
from ferserve_vision.formats.sniff import read_header
from ferserve_vision.opencv import GreyImage, cv2
from ferserve_vision.reduction import reduced

if TYPE_CHECKING:
    from ferserve_vision.formats.header import ImageHeader

_ORIENTATIONS: Final[dict[int, tuple[bool, int | None]]] = {
    1: (False, None),
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}
"""What shows a picture upright, by EXIF orientation: whether to transpose it, then which axis to flip."""

_GREY_FLAGS: Final = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
"""What OpenCV calls the reductions."""


def decode_grey(data: bytes, max_pixels: int) -> GreyImage:
    """Decodes a picture in full: `read_bounded_header`, then `decode_pixels`.

    Args:
        data: Bytes of any content.
        max_pixels: Most pixels to decode, checked by the header.

    Returns:
        uint8 [H, W], 0-255.

    Raises:
        PictureFormatError: Not a JPEG, PNG or WebP.
        PictureUnreadableError: Truncated or damaged.
        PictureTooLargeError: More than `max_pixels`.

    Thread-safety: any thread. The decoder itself runs without the GIL.
    """
    return decode_pixels(data, read_bounded_header(data, max_pixels))


def read_bounded_header(data: bytes, max_pixels: int) -> ImageHeader:
    """Reads what a picture is, and rejects one with more than `max_pixels`.

    Raises:
        PictureFormatError: Not a JPEG, PNG or WebP.
        PictureUnreadableError: Truncated or damaged.
        PictureTooLargeError: More than `max_pixels`.
    """
    header = read_header(data)
    if header.pixel_count > max_pixels:
        raise PictureTooLargeError(header.width, header.height, max_pixels)
    return header


def decode_pixels(data: bytes, header: ImageHeader, reduction: int = 1) -> GreyImage:
    """Decodes a picture to grey levels, turned the way its EXIF says.

    Transparent pixels lie on white; 16-bit levels are scaled to 8 bits; of an animation the first frame is
    taken. A JPEG whose end is there but whose pixels are damaged decodes as far as its decoder gets: JPEG has
    no checksum.

    Args:
        data: A picture.
        header: What `read_bounded_header` says of it.
        reduction: Pixels a side that become one: 1; for a JPEG also 2, 4 or 8.

    Returns:
        uint8 [H, W], 0-255; the sides that are shown, divided by `reduction` and rounded up.

    Raises:
        PictureUnreadableError: Damaged.

    Thread-safety: any thread. The decoder itself runs without the GIL.
    """
    pixels = _decode(data, header, reduction)
    if pixels.shape[:2] != (reduced(header.height, reduction), reduced(header.width, reduction)):
        raise PictureUnreadableError(f"the {header.format.value}'s pixels are not of the size that it gives")
    if pixels.dtype != np.uint8:
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)  # 65535 / 255, rounded to nearest
    grey = _on_white(pixels) if pixels.ndim == 3 else pixels
    return _turned(grey, header.orientation)


def _decode(data: bytes, header: ImageHeader, reduction: int) -> Any:  # noqa: ANN401 - OpenCV ships no types
    """Decodes to [H, W], or to [H, W, 3 or 4] where there is transparency; uint8 or uint16, not turned."""
    if header.format is ImageFormat.PNG:
        data = strip_ancillary_chunks(data, keep_transparency=header.has_alpha)
    if header.has_alpha:
        flags = cv2.IMREAD_UNCHANGED
    else:
        flags = _GREY_FLAGS[reduction] | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise PictureUnreadableError(f"the {header.format.value}'s pixel data is damaged")
    return pixels


def _on_white(pixels: Any) -> Any:  # noqa: ANN401 - as above
    """Lays BGR or BGRA, uint8 [H, W, 3 or 4], on white: uint8 [H, W]."""
    grey = cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY)
    if pixels.shape[2] == 3:
        return grey
    alpha = pixels[..., 3].astype(np.uint16)
    # At most 255 * 255 + 127, which 16 bits hold.
    return ((grey * alpha + (255 - alpha) * 255 + 127) // 255).astype(np.uint8)


def _turned(grey: Any, orientation: int) -> GreyImage:  # noqa: ANN401 - as above
    transposed, axis = _ORIENTATIONS[orientation]
    if transposed:
        grey = cv2.transpose(grey)
    if axis is not None:
        grey = cv2.flip(grey, axis)
    return np.ascontiguousarray(grey, dtype=np.uint8)
