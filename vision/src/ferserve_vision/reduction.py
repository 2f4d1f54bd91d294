"""Decides how far a JPEG is decoded reduced, where it is searched on a smaller copy anyway.

A JPEG stores blocks of 8x8 frequencies. Leaving out the higher ones decodes it at a half, a quarter or an eighth
of its sides (libjpeg's `scale_denom`, "libjpeg.txt", "Decompression parameter selection"): fewer sums for each
block, and above all fewer pixels to turn, to shrink and to keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferserve_vision.crop import FACE_SIDE_PIXELS
from ferserve_vision.formats.header import ImageFormat

if TYPE_CHECKING:
    from ferserve_vision.formats.header import ImageHeader

HEADROOM: Final = 2
"""Longer side of the reduced picture, at least, in longer sides of the copy that is searched.

Crops are shrunk to 48 pixels a side from no fewer than 80 with the Haar cascade's defaults. With 1 they had 62,
and the probabilities of the same boxes in photographs of 12 megapixels moved by 0.045 on average, 0.20 at most;
with 2 by 0.018 and 0.07, for 4 ms more.
"""

_REDUCTIONS: Final = (8, 4, 2)


def reduction_for(header: ImageHeader, *, side_pixels: int, min_face_pixels: int) -> int:
    """Decides by how much a picture is decoded smaller than it is.

    The smallest face that can be found has `min_face_pixels` in the searched copy. In the reduced picture it has
    the 48 pixels a side that its crop takes, so that nothing is ever decoded a second time.

    Args:
        header: The picture.
        side_pixels: Longer side of the copy that is searched.
        min_face_pixels: Smallest face in that copy.

    Returns:
        1, 2, 4 or 8: pixels a side that become one. 1 for what is no JPEG, and for pictures that the search
        shrinks by too little.
    """
    if header.format is not ImageFormat.JPEG:
        return 1
    longer = max(header.width, header.height)
    return next(
        (each for each in _REDUCTIONS if _is_enough(reduced(longer, each), side_pixels, min_face_pixels)), 1
    )


def _is_enough(longer_side_pixels: int, side_pixels: int, min_face_pixels: int) -> bool:
    """Tells whether such a longer side leaves enough pixels for the search and for every crop."""
    return (
        longer_side_pixels >= side_pixels * HEADROOM
        and longer_side_pixels * min_face_pixels >= side_pixels * FACE_SIDE_PIXELS
    )


def reduced(side_pixels: int, reduction: int) -> int:
    """Returns a side of a picture that is decoded reduced, in pixels; the rest of a block is a pixel too."""
    return -(-side_pixels // reduction)
