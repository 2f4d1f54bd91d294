"""Errors of pictures that cannot be read."""


class VisionError(Exception):
    """Base of the errors of this package. The message says what is wrong with the picture."""


class PictureFormatError(VisionError):
    """The bytes are no JPEG, PNG or WebP; the message says what they look like."""


class PictureUnreadableError(VisionError):
    """The picture is truncated, damaged or of an unsupported kind."""


class PictureTooLargeError(VisionError):
    """The picture has more pixels than the caller allows.

    Attributes:
        width: Width as stored, in pixels.
        height: Height as stored, in pixels.
        max_pixels: The limit.
    """

    def __init__(self, width: int, height: int, max_pixels: int) -> None:
        super().__init__(f"the picture has {width}x{height} pixels, {max_pixels} are allowed")
        self.width = width
        self.height = height
        self.max_pixels = max_pixels

    @property
    def pixel_count(self) -> int:
        """Number of pixels that the header gives."""
        return self.width * self.height


class PictureTooCostlyError(VisionError):
    """Decoding the picture would take more work or memory than allowed, for example thousands of scans."""
