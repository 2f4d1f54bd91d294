"""Reads video files and streams through FFmpeg (PyAV)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ferserve_client.video.extras import load_av
from ferserve_client.video.sources import (
    Damage,
    SourceKind,
    VideoFrame,
    VideoUnreadableError,
    display_name,
    kind_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

_LIVE_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "rtp://", "udp://", "srt://", "tcp://")


class Container:
    """Reads the frames of a video file or URL. One thread at a time.

    Args:
        where: A file or URL.
        timeout_s: Longest wait for a connection, and for the next packet of a URL.

    Raises:
        MissingExtraError: PyAV is not installed.
        VideoUnreadableError: It cannot be opened, or holds no video.
    """

    def __init__(self, where: str, timeout_s: float) -> None:
        self._av = load_av()
        self._name = display_name(where)
        self._where = where
        self._file: BinaryIO | None = None
        self._container: Any = self._open(where, timeout_s)
        if not self._container.streams.video:
            self.close()
            raise VideoUnreadableError(f"{self._name}: holds no video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        length = self._container.duration
        self.duration_s = None if length is None or length <= 0 else length / self._av.time_base
        is_url = kind_of(where) is SourceKind.URL
        self.live = is_url and (where.lower().startswith(_LIVE_SCHEMES) or self.duration_s is None)
        self.frame_count = None if self.live else self._stream.frames or None
        self.damage = Damage()
        self._last_time_s: float | None = None
        self._decoded_count = 0

    def close(self) -> None:
        """Give the file or connection back."""
        if self._container is not None:
            self._container.close()
            self._container = None
        self._close_file()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frames until the video ends. Packets that cannot be decoded are counted and passed over.

        Raises:
            VideoUnreadableError: The connection broke off.
        """
        began_s = 0.0
        for index, frame in enumerate(self._decoded()):
            now_s = time.monotonic()
            if index == 0:
                began_s = now_s
            time_s = now_s - began_s if self.live else self._time_of(frame)
            self._last_time_s = time_s
            self._decoded_count = index + 1
            turned = frame.rotation % 180 != 0
            size = (frame.height, frame.width) if turned else (frame.width, frame.height)
            yield VideoFrame(index, time_s, size, now_s, _Pixels(frame))
        self._check_end()

    def _open(self, where: str, timeout_s: float) -> Any:  # noqa: ANN401 - PyAV's types are not installed everywhere
        try:
            if kind_of(where) is SourceKind.URL:
                options = {"rtsp_transport": "tcp"}
                return self._av.open(
                    where, timeout=(timeout_s, timeout_s), options=options, metadata_errors="replace"
                )
            # An open file rather than its name: FFmpeg takes `a:b` for a protocol, and only UTF-8.
            self._file = Path(where).open("rb")  # noqa: SIM115 - closed by close
            return self._av.open(self._file, metadata_errors="replace")
        except self._av.error.FFmpegError as error:
            self._close_file()
            raise VideoUnreadableError(f"{self._name}: cannot be opened as a video: {error.strerror}") from None
        except OSError as error:
            raise VideoUnreadableError(f"{self._name}: {error.strerror or error}") from None

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    def _decoded(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError as error:
                if self.live or kind_of(self._where) is SourceKind.URL:
                    raise VideoUnreadableError(f"{self._name}: broke off: {error.strerror}") from None
                self._note_damage(lost=1)
                return
            if packet is None:
                return
            if packet.is_corrupt:
                self._note_damage(lost=1)
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError:
                self._note_damage(lost=1)
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._note_damage(damaged=1)
                yield frame

    def _time_of(self, frame: Any) -> float:  # noqa: ANN401 - as above
        origin_s = (self._container.start_time or 0) / self._av.time_base
        if frame.time is not None:
            return max(0.0, float(frame.time - origin_s))
        step_s = 1.0 / float(self._stream.average_rate or 25)  # a stream without times, such as raw H.264
        return 0.0 if self._last_time_s is None else self._last_time_s + step_s

    def _note_damage(self, *, lost: int = 0, damaged: int = 0) -> None:
        if not self.damage:
            self.damage.first_time_s = self._last_time_s or 0.0
        self.damage.lost_packets += lost
        self.damage.damaged_frames += damaged

    def _check_end(self) -> None:
        if self.live or self._last_time_s is None:
            return
        not_decoded = max(0, (self.frame_count or 0) - self._decoded_count)
        self.damage.missing_end_s = self._missing_end_s() if not_decoded or not self.frame_count else 0.0
        # An edit list of MP4 hides sound frames, so that their count alone is no damage there.
        if not_decoded and (self.damage or self._container.format.name == "avi"):
            self._note_damage(lost=max(0, not_decoded - self.damage.lost_packets))

    def _missing_end_s(self) -> float:
        # The stream's own length, because sound may be longer than the picture.
        stream = self._stream
        if stream.duration is None or not stream.average_rate or self._last_time_s is None:
            return 0.0
        origin_s = (self._container.start_time or 0) / self._av.time_base
        end_s = float((stream.start_time or 0) + stream.duration) * float(stream.time_base) - origin_s
        missing_s = end_s - self._last_time_s
        # Half a second for the last frame, which may stand longer than the others.
        return missing_s if missing_s > max(0.5, 2.0 / float(stream.average_rate)) else 0.0


class _Pixels:
    """Converts one decoded frame to pixels, turned as the container says."""

    __slots__ = ("_frame",)

    def __init__(self, frame: Any) -> None:  # noqa: ANN401 - PyAV's types are not installed everywhere
        self._frame = frame

    def __call__(self) -> npt.NDArray[np.uint8]:
        pixels: npt.NDArray[np.uint8] = self._frame.to_ndarray(format="bgr24")
        quarter_turns = round(self._frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels
