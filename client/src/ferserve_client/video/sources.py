"""Names videos, cameras and streams, and describes them as sources of frames."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

_SECRET_PARAMETER = re.compile(r"(?i)([?&;](?:pass(?:word|wd)?|pwd|token|secret|key|auth|sig(?:nature)?)=)[^&;#]*")


class VideoUnreadableError(OSError):
    """Reports a video, camera or stream that cannot be opened, or broke off."""


class SourceKind(StrEnum):
    """Names the origin of a video."""

    FILE = "file"
    CAMERA = "camera"
    URL = "url"


class VideoFrame:
    """Holds one frame as it was read. Its pixels are converted when they are asked for, once.

    Args:
        index: Number of the frame in the video, from 0.
        time_s: Files: the container's presentation time, from the start of the video. Live: seconds since the
            first frame.
        size: Width and height in pixels.
        arrived_s: Monotonic time at which the frame was read.
        convert: Makes the pixels.
    """

    __slots__ = ("_convert", "_pixels", "arrived_s", "height", "index", "time_s", "width")

    def __init__(
        self,
        index: int,
        time_s: float,
        size: tuple[int, int],
        arrived_s: float,
        convert: Callable[[], npt.NDArray[np.uint8]],
    ) -> None:
        self.index = index
        self.time_s = time_s
        self.width, self.height = size
        self.arrived_s = arrived_s
        self._convert: Callable[[], npt.NDArray[np.uint8]] | None = convert
        self._pixels: npt.NDArray[np.uint8] | None = None

    def pixels(self) -> npt.NDArray[np.uint8] | None:
        """Return uint8 [H, W, 3], blue, green, red, 0 to 255; None after `forget`."""
        if self._pixels is None and self._convert is not None:
            self._pixels = self._convert()
        return self._pixels

    def forget(self) -> None:
        """Give the memory of the pixels back."""
        self._convert = self._pixels = None


@dataclass(slots=True)
class Damage:
    """Counts the damage of a video."""

    lost_packets: int = 0
    """Packets that could not be decoded; mostly a frame each."""
    damaged_frames: int = 0
    """Frames that were decoded with errors. They are answered like any other."""
    first_time_s: float | None = None
    """Time of the last sound frame before the first damage."""
    missing_end_s: float = 0.0
    """Seconds by which the video ends before its own header says."""

    def __bool__(self) -> bool:
        return bool(self.lost_packets or self.damaged_frames or self.missing_end_s)

    def __str__(self) -> str:
        parts = []
        if self.lost_packets:
            parts.append(f"{self.lost_packets} {_plural('frame', self.lost_packets)} could not be read")
        if self.damaged_frames:
            parts.append(f"{self.damaged_frames} {_plural('frame', self.damaged_frames)} read with errors")
        if self.missing_end_s:
            parts.append(f"the last {self.missing_end_s:.1f} s are missing")
        where = "" if self.first_time_s is None else f" from {self.first_time_s:.2f} s on"
        return "the video is damaged: " + ", ".join(parts) + where


class VideoSource(Protocol):
    """Reads the frames of an open video, camera or stream. One thread reads and closes it."""

    live: bool
    """Whether frames are lost if nobody reads them in time."""
    duration_s: float | None
    """Length of the video. None: live, or not known."""
    frame_count: int | None
    """Frames of the video by its header. None: live, or not known."""
    damage: Damage
    """Damage found so far."""

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frames, until the video ends.

        Raises:
            VideoUnreadableError: The source broke off.
        """

    def close(self) -> None:
        """Give the file, connection or camera back."""


def kind_of(where: str) -> SourceKind:
    """Tell the kind of a source by its looks: digits are a camera, `scheme://` is a URL, all else is a file.

    A file that exists wins over a URL, so that names with a colon work; `./0` is a file named 0.
    """
    if where.isascii() and where.isdecimal():
        return SourceKind.CAMERA
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", where) and not os.path.lexists(where):
        return SourceKind.URL
    return SourceKind.FILE


def display_name(where: str) -> str:
    """Return a source's name for people: printable UTF-8, without the password of a URL."""
    if kind_of(where) is SourceKind.URL:
        where = _masked(where)
    return printable(where)


def printable(text: str) -> str:
    """Replace bytes that are not UTF-8 (in file names) and control characters by their escapes."""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in readable)


def _masked(url: str) -> str:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        credentials, _, host = parts.netloc.rpartition("@")
        user, colon, _ = credentials.partition(":")
        parts = parts._replace(netloc=f"{user}{colon and ':***'}@{host}")
    return _SECRET_PARAMETER.sub(r"\1***", urlunsplit(parts))


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
