"""Recognises pictures by their bytes. Names and media types that callers give are not believed."""

from typing import Final

from ferserve_vision.errors import PictureFormatError
from ferserve_vision.formats import jpeg, png, webp
from ferserve_vision.formats.header import ImageHeader

_OTHER_FORMATS: Final = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"II*\x00", "a TIFF or a raw photo"),
    (0, b"MM\x00*", "a TIFF or a raw photo"),
    (4, b"ftypavi", "an AVIF"),
    (4, b"ftyphe", "an HEIC"),
    (4, b"ftypmi", "an HEIF"),
    (4, b"ftyp", "a video (MP4)"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP", "a JPEG 2000"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x1aE\xdf\xa3", "a video (WebM)"),
    (8, b"AVI ", "a video (AVI)"),
    (0, b"data:", "a data: URL; send the bytes, not their base64 form"),
    (0, b"/9j/", "a JPEG in base64; send the bytes themselves"),
    (0, b"iVBORw0KGgo", "a PNG in base64; send the bytes themselves"),
)
_TEXT_BYTES: Final = 64


def read_header(data: bytes) -> ImageHeader:
    """Reads what `data` is and checks that it is complete, without decoding it.

    Args:
        data: Bytes of any content.

    Raises:
        PictureFormatError: Not a JPEG, PNG or WebP; says what it looks like.
        PictureUnreadableError: One of them, but truncated or damaged.
    """
    if data.startswith(jpeg.SIGNATURE):
        return jpeg.read_jpeg_header(data)
    if data.startswith(png.SIGNATURE):
        return png.read_png_header(data)
    if webp.is_webp(data):
        return webp.read_webp_header(data)
    raise PictureFormatError(_looks_like(data))


def _looks_like(data: bytes) -> str:
    if not data:
        return "there are no bytes"
    for offset, mark, name in _OTHER_FORMATS:
        if data.startswith(mark, offset):
            return f"it looks like {name}"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in data[:_TEXT_BYTES]):
        return "it looks like text"
    return "its first bytes are those of no known format"
