"""Plots the timeline of every track (matplotlib)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferserve_client.outputs.timeline import Timeline, Track
from ferserve_client.video.drawing import COLORS, OTHER_COLOR
from ferserve_client.video.extras import load_figure

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_client.watch.frames import SourceReport, WatchedFrame

MAX_TRACKS: Final = 40
"""Tracks of a plot, the longest of all. More rows are too thin to read."""


class Plot:
    """Plots one row per track, coloured by emotion, when the watching ends.

    Args:
        path: The file: PNG, SVG or PDF, by its ending.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: The file cannot be written, or its format is not known.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._figure_class = load_figure()
        if path.suffix.lower() not in {".png", ".svg", ".pdf"}:
            raise OSError("the name of a plot ends in .png, .svg or .pdf")
        path.touch()
        self._timeline = Timeline()

    def show(self, watched: WatchedFrame) -> None:
        """Take in the frame."""
        self._timeline.add(watched)

    def end_source(self, report: SourceReport) -> None:
        """Do nothing: the plot is drawn at the end."""

    def close(self) -> None:
        """Draw and write the plot."""
        tracks = longest(self._timeline.tracks(), MAX_TRACKS)
        figure = self._figure_class(figsize=(10, 1.5 + 0.35 * max(1, len(tracks))), layout="constrained")
        axes = figure.subplots()
        shown: set[str] = set()
        several = len({track.source_index for track in tracks}) > 1
        for row, track in enumerate(tracks):
            for segment in track.segments:
                color = tuple(level / 255 for level in COLORS.get(segment.emotion, OTHER_COLOR))
                label = None if segment.emotion in shown else segment.emotion
                shown.add(segment.emotion)
                width = max(segment.end_s - segment.begin_s, 0.02)
                axes.barh(row, width, left=segment.begin_s, color=color, edgecolor="#555", lw=0.3, label=label)
        axes.set_yticks(
            range(len(tracks)), [f"{track.source} {track.name}" if several else track.name for track in tracks]
        )
        axes.invert_yaxis()
        axes.set_xlabel("time in seconds")
        axes.set_title("Apparent expression of each face")
        if shown:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.savefig(self._path, dpi=150)


def longest(tracks: list[Track], count: int) -> list[Track]:
    """Return at most so many tracks, those that were seen in most frames, in their order."""
    kept = sorted(tracks, key=lambda track: -track.face_count)[:count]
    return [track for track in tracks if track in kept]
