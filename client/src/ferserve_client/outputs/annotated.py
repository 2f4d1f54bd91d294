"""Writes and shows annotated frames. Faces of frames that were not analysed are carried over from the last one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ferserve_client.video.drawing import draw_faces
from ferserve_client.video.sources import SourceKind, kind_of
from ferserve_client.video.writer import VideoWriter

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ferserve_client.faces import DetectedFace
    from ferserve_client.video.window import Window
    from ferserve_client.watch.frames import SourceReport, WatchedFrame

CARRIED_S: Final = 1.0
"""Longest time for which faces are carried over. Boxes that stand still longer look like faces that are there."""


class LastFaces:
    """Remembers the faces of each source's last analysed frame."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, tuple[DetectedFace, ...]]] = {}

    def of(self, watched: WatchedFrame) -> tuple[DetectedFace, ...]:
        """Return the faces to draw on a frame: its own, or those of the last analysed frame."""
        time_s = watched.answer.time_s
        if watched.answer.analysis is not None:
            self._last[watched.source_index] = (time_s, watched.faces)
            return watched.faces
        last_s, faces = self._last.get(watched.source_index, (time_s, ()))
        return faces if time_s - last_s <= CARRIED_S else ()


class AnnotatedVideos:
    """Writes one annotated video per source.

    Args:
        paths: The file of each source.
        sources: The sources, as they were named. The sound of files is copied.
    """

    def __init__(self, paths: list[Path], sources: list[str]) -> None:
        self.name = str(paths[0] if len(paths) == 1 else paths[0].parent)
        sounds = [where if kind_of(where) is SourceKind.FILE else None for where in sources]
        self._writers: dict[int, VideoWriter] = {}
        try:
            if len(paths) > 1:
                paths[0].parent.mkdir(parents=True, exist_ok=True)
            for index, (path, sound) in enumerate(zip(paths, sounds, strict=True)):
                self._writers[index] = VideoWriter(path, sound)
        except BaseException:
            self.close()
            raise
        self._last_faces = LastFaces()

    def show(self, watched: WatchedFrame) -> None:
        """Write the frame."""
        faces = self._last_faces.of(watched)
        writer, pixels = self._writers.get(watched.source_index), drawn(watched, faces)
        if writer is not None and pixels is not None:
            writer.write(pixels, watched.answer.time_s)

    def end_source(self, report: SourceReport) -> None:
        """Complete the video of a source."""
        writer = self._writers.pop(report.source_index, None)
        if writer is not None:
            writer.close()

    def close(self) -> None:
        """Complete all videos."""
        while self._writers:
            self._writers.popitem()[1].close()


class WindowOutput:
    """Shows annotated frames in a window.

    Args:
        window: The window, which this output closes.
    """

    name = "window"

    def __init__(self, window: Window) -> None:
        self._window = window
        self._last_faces = LastFaces()

    def show(self, watched: WatchedFrame) -> None:
        """Show the frame."""
        pixels = drawn(watched, self._last_faces.of(watched))
        if pixels is not None:
            self._window.show(watched.source_index, pixels)

    def end_source(self, report: SourceReport) -> None:
        """Leave the last frame of the source."""

    def close(self) -> None:
        """Close the window."""
        self._window.close()


def drawn(watched: WatchedFrame, faces: tuple[DetectedFace, ...]) -> npt.NDArray[np.uint8] | None:
    """Return a copy of the frame with faces drawn; None where its pixels were given back."""
    pixels = watched.frame.pixels()
    if pixels is None:
        return None
    copy = pixels.copy()
    draw_faces(copy, faces)
    return copy


def video_paths(save: Path, sources: list[str]) -> list[Path]:
    """Return the video file of each source: `save` itself for one, files in the folder `save` for several."""
    if len(sources) == 1:
        return [save]
    paths: list[Path] = []
    for number, where in enumerate(sources, start=1):
        stem = re.sub(r"[^\w.-]+", "_", Path(where).stem.encode("utf-8", "replace").decode()) or "source"
        path = save / f"{stem}.mp4"
        paths.append(path if path not in paths else save / f"{stem}-{number}.mp4")
    return paths
