"""Writes videos that browsers play: H.264 with the sound of the source, playable whatever ends the writing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ferserve_client.video.extras import load_av, load_cv2

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

_TIME_BASE: Final = Fraction(1, 90_000)
"""Unit of the video's clock: MPEG's own, in which all usual frame rates are whole."""

# Fragments every second, so that a killed writer leaves a file that plays; at a normal end the file is rewritten
# to an ordinary MP4 (`hybrid_fragmented`, FFmpeg 7.1).
_OPTIONS: Final = {"movflags": "+hybrid_fragmented+frag_keyframe+default_base_moof"}


class VideoWriter:
    """Writes an MP4 of H.264 and AAC. Its size is that of the first frame. Not thread-safe.

    Args:
        path: The file; one that is there is overwritten.
        sound_of: Video file whose sound is copied, up to the last frame that is written. None: no sound.

    Raises:
        MissingExtraError: PyAV is not installed.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, sound_of: str | None) -> None:
        self._av = load_av()
        self._path = path
        self._file = path.open("wb")
        self._container: Any = None
        self._sound = None if sound_of is None else _Sound(self._av, sound_of)
        self._stream: Any = None
        self._last_pts = -1
        self._size = (0, 0)

    def write(self, pixels: npt.NDArray[np.uint8], time_s: float) -> None:
        """Add a frame: uint8 [H, W, 3], blue, green, red; shown from `time_s` on.

        Raises:
            OSError: The file cannot be written, as when the disk is full.
        """
        try:
            if self._container is None:
                self._begin(pixels)
            frame = self._av.VideoFrame.from_ndarray(self._fitted(pixels), format="bgr24")
            frame.pts = self._last_pts = max(self._last_pts + 1, round(time_s / _TIME_BASE))
            frame.time_base = _TIME_BASE
            self._container.mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.copy_until(time_s, self._container)
        except self._av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from None

    def close(self) -> None:
        """Complete the file.

        Raises:
            OSError: The file cannot be written.
        """
        try:
            if self._container is not None:
                self._container.mux(self._stream.encode(None))
                if self._sound is not None:
                    self._sound.end(self._container)
                self._container.close()
        except self._av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from None
        finally:
            self._container = None
            if self._sound is not None:
                self._sound.close()
            self._file.close()

    def _begin(self, pixels: npt.NDArray[np.uint8]) -> None:
        self._container = self._av.open(self._file, "w", format="mp4", options=_OPTIONS)
        height, width = pixels.shape[:2]
        self._size = (width - width % 2 or 2, height - height % 2 or 2)  # H.264's 4:2:0 takes even sizes
        # Without B frames: they would shift the pictures against the sound by two frames.
        options = {"preset": "veryfast", "crf": "23", "g": "30", "bf": "0"}
        self._stream = self._container.add_stream("libx264", rate=Fraction(30), options=options)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = _TIME_BASE
        if self._sound is not None and not self._sound.begin(self._container):
            self._sound.close()
            self._sound = None

    def _fitted(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        width, height = self._size
        if pixels.shape[1] == width and pixels.shape[0] == height:
            return pixels
        if 0 <= pixels.shape[1] - width <= 1 and 0 <= pixels.shape[0] - height <= 1:
            cut = pixels[:height, :width]
            return cut.copy() if not cut.flags.c_contiguous else cut
        resized: npt.NDArray[np.uint8] = load_cv2().resize(pixels, self._size)
        return resized


class _Sound:
    """Re-encodes the sound of a video file as far as the pictures go."""

    def __init__(self, av: Any, where: str) -> None:  # noqa: ANN401 - PyAV's types are not installed everywhere
        self._av = av
        self._file = Path(where).open("rb")  # noqa: SIM115 - closed by close
        self._input: Any = av.open(self._file, metadata_errors="replace")
        self._frames: Iterator[Any] = iter(())
        self._next: Any = None
        self._output: Any = None
        self._resampler: Any = None

    def begin(self, container: Any) -> bool:  # noqa: ANN401 - as above
        """Add the stream; False if the source has no sound."""
        if not self._input.streams.audio:
            return False
        stream = self._input.streams.audio[0]
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        rate = stream.codec_context.sample_rate or 48_000
        self._output = container.add_stream("aac", rate=rate, layout=layout)
        self._resampler = av_resampler = self._av.AudioResampler(format="fltp", layout=layout, rate=rate)
        self._frames = self._resampled(stream, av_resampler)
        self._next = next(self._frames, None)
        return True

    def copy_until(self, time_s: float, container: Any) -> None:  # noqa: ANN401 - as above
        """Write the sound up to a time."""
        while self._next is not None and (self._next.time or 0.0) <= time_s:
            container.mux(self._output.encode(self._next))
            self._next = next(self._frames, None)

    def end(self, container: Any) -> None:  # noqa: ANN401 - as above
        """Write what the encoder holds back."""
        container.mux(self._output.encode(None))

    def close(self) -> None:
        """Give the source back."""
        self._input.close()
        self._file.close()

    def _resampled(self, stream: Any, resampler: Any) -> Iterator[Any]:  # noqa: ANN401 - as above
        origin_s = (self._input.start_time or 0) / self._av.time_base
        packets = self._input.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                decoded = packet.decode()
            except self._av.error.FFmpegError:
                continue  # a hole in the sound is silence; damage is reported by the reader of the pictures
            for frame in decoded:
                for resampled in resampler.resample(frame):
                    if resampled.pts is not None and resampled.time_base:
                        resampled.pts = max(0, resampled.pts - round(origin_s / resampled.time_base))
                    yield resampled
