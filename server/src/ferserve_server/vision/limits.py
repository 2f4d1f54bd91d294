"""Defines the bounds of picture reading."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VisionLimits:
    """Holds the bounds of one pool of threads.

    Attributes:
        max_image_pixels: Maximum number of pixels of a picture, checked before it is decoded.
        max_faces_per_image: Maximum number of faces of a picture that are kept, the largest; the rest is counted.
        max_queue_images: Maximum number of pictures that wait, 0 or more, those being read not counted.
        max_queue_bytes: Maximum size of the pictures that wait or are read, encoded, together.
        max_decode_bytes: Maximum memory of the pictures that are decoded at once, estimated from their headers.
        max_decode_s: Maximum time to decode one picture, estimated from its header.
    """

    max_image_pixels: int = 50_000_000
    max_faces_per_image: int = 64
    max_queue_images: int = 256
    max_queue_bytes: int = 256 * 2**20
    max_decode_bytes: int = 1024 * 2**20
    max_decode_s: float = 2.0
