"""Draws pictures for the tests by code, and loads one portrait of NASA's."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

ASTRONAUT = Path(__file__).parents[1] / "media" / "astronaut.jpg"
"""512x512, one frontal face of about 120 pixels, at about left 175, top 65."""


def corner_mark(width: int = 60, height: int = 40) -> Pixels:
    """Light, with a dark quarter at the top left: shows how a picture was turned. uint8 [H, W]."""
    grey = np.full((height, width), 200, np.uint8)
    grey[: height // 2, : width // 2] = 20
    return grey


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    """Grey noise, which compresses badly. uint8 [H, W]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def ramp(width: int = 256, height: int = 8) -> Pixels:
    """Grey levels rising from 0 at the left to 255 at the right. uint8 [H, W]."""
    return np.tile(np.linspace(0, 255, width).round().astype(np.uint8), (height, 1))


def encode(
    pixels: npt.NDArray[np.generic], kind: str = "JPEG", *, orientation: int = 1, **options: object
) -> bytes:
    """Encodes grey, RGB or RGBA pixels; `kind` is Pillow's name of the format, `options` are its own."""
    return encode_image(Image.fromarray(pixels), kind, orientation=orientation, **options)


def plain(width: int, level: int = 100) -> bytes:
    """A PNG of one grey level, `width` x 10."""
    return encode(np.full((10, width), level, np.uint8), "PNG")


def encode_image(image: Image.Image, kind: str, *, orientation: int = 1, **options: object) -> bytes:
    """Encodes an image of Pillow's, with an EXIF orientation if it is not 1."""
    if orientation != 1:
        exif = image.getexif()
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes()
    if kind == "WEBP":
        options.setdefault("lossless", True)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, payload: bytes) -> bytes:
    """One chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def bomb_png(width: int = 60_000, height: int = 60_000) -> bytes:
    """A well-formed PNG of a few bytes that claims `width` x `height` pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        + png_chunk(b"IEND", b"")
    )


def animated(kind: str, levels: tuple[int, ...] = (90, 180, 250)) -> bytes:
    """An animated PNG or WEBP with one plain frame of 20x20 for each level."""
    first, *rest = (Image.new("RGB", (20, 20), (level, level, level)) for level in levels)
    options = {"lossless": True} if kind == "WEBP" else {}
    return encode_image(first, kind, save_all=True, append_images=rest, **options)


@cache
def astronaut() -> Pixels:
    """The portrait: uint8 [512, 512]."""
    return np.asarray(Image.open(ASTRONAUT).convert("L"))


def enlarged_astronaut(scale: float) -> Pixels:
    """The portrait as a camera of more pixels has it: uint8 [512 * scale, 512 * scale]."""
    side = round(512 * scale)
    return np.asarray(Image.fromarray(astronaut()).resize((side, side), Image.Resampling.BICUBIC))


def turned_astronaut(orientation: int) -> bytes:
    """The portrait stored as a phone stores it: turned, with the EXIF orientation that undoes it."""
    undo = {
        1: lambda grey: grey,
        2: np.fliplr,
        3: lambda grey: np.rot90(grey, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda grey: np.rot90(grey, 1),
        7: lambda grey: np.rot90(grey, 2).T,
        8: lambda grey: np.rot90(grey, -1),
    }[orientation]
    return encode(np.ascontiguousarray(undo(astronaut())), quality=92, orientation=orientation)
