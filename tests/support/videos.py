"""Makes small videos of every kind that watching must cope with."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH, HEIGHT = 320, 240


def write_video(path: Path, times_s: Sequence[float], *, sound: bool = False, codec: str = "libx264") -> None:
    """Writes frames of noise at these times, with a tone of the same length where sound is asked for."""
    random = np.random.default_rng(7)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        if codec != "mjpeg":
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for number, time_s in enumerate(times_s):
            pixels = random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            frame.pts = number if codec == "mjpeg" else round(time_s * 1000)
            frame.time_base = Fraction(1, 30) if codec == "mjpeg" else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            samples = np.sin(np.arange(round(times_s[-1] * 16_000)) * 0.2).astype(np.float32)[None]
            tone = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            tone.rate, tone.pts = 16_000, 0
            container.mux(audio.encode(tone))
            container.mux(audio.encode(None))


def punch_hole(path: Path, byte_count: int = 3000) -> None:
    """Overwrites the middle of a file with zeros."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + byte_count] = bytes(byte_count)
    path.write_bytes(data)


def cut_off(path: Path, share: float = 0.5) -> None:
    """Keeps the first part of a file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
