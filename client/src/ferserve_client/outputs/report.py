"""Writes a report of one HTML file: timelines, tracks and thumbnails, without anything from elsewhere."""

from __future__ import annotations

import base64
import html
from collections import Counter
from typing import TYPE_CHECKING, Final

from ferserve_client.outputs.plot import MAX_TRACKS, longest
from ferserve_client.outputs.timeline import Timeline, Track
from ferserve_client.video.drawing import COLORS, OTHER_COLOR
from ferserve_client.video.extras import load_cv2

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_client.faces import DetectedFace
    from ferserve_client.watch.frames import SourceReport, WatchedFrame

THUMBNAIL_SIDE: Final = 96
"""Width and height of a thumbnail in pixels."""

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .6rem .3rem 0;
vertical-align: middle; border-bottom: 1px solid #8885; } td.n { font-variant-numeric: tabular-nums; }
img { border-radius: 4px; display: block; } svg { width: 100%; height: auto; } .problem { color: #c33; }
.key span { display: inline-block; margin-right: 1rem; } .key i { display: inline-block; width: .8em; height: .8em;
margin-right: .3em; border: 1px solid #5558; } .scroll { overflow-x: auto; } svg text { fill: currentColor; }
"""


class Report:
    """Gathers tracks, and writes the report when the watching ends.

    Args:
        path: The HTML file.
        thumbnails: Whether the report shows a picture of each track. Needs frames with pixels.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, *, thumbnails: bool) -> None:
        self.name = str(path)
        self._path = path
        path.touch()
        self._timeline = Timeline()
        self._thumbnails: dict[int, tuple[int, bytes]] | None = {} if thumbnails else None
        self._sources: dict[int, str] = {}
        self._frames: Counter[int] = Counter()
        self._analysed: Counter[int] = Counter()
        self._ends: dict[int, SourceReport] = {}
        self._models: set[str] = set()

    def show(self, watched: WatchedFrame) -> None:
        """Take in the frame."""
        index = watched.source_index
        self._sources[index] = watched.source
        self._frames[index] += 1
        self._analysed[index] += watched.answer.analysis is not None
        if watched.answer.servable is not None:
            self._models.add(f"{watched.answer.servable.name} {watched.answer.servable.version}")
        for track, face in self._timeline.add(watched):
            self._keep_thumbnail(watched, track, face)

    def end_source(self, report: SourceReport) -> None:
        """Note the problems of the source."""
        self._sources[report.source_index] = report.source
        self._ends[report.source_index] = report

    def close(self) -> None:
        """Write the file."""
        self._path.write_text(self._page(), encoding="utf-8")

    def _keep_thumbnail(self, watched: WatchedFrame, track: Track, face: DetectedFace) -> None:
        if self._thumbnails is None:
            return
        area, known = face.box.width * face.box.height, self._thumbnails.get(id(track))
        # A quarter larger than the one that is kept, so that an approaching face is not encoded at every frame.
        if known is not None and area < 1.25 * known[0]:
            return
        pixels = watched.frame.pixels()
        if pixels is None:
            return
        box = face.box
        crop = pixels[max(0, box.top) : box.top + box.height, max(0, box.left) : box.left + box.width]
        if crop.size:
            cv2 = load_cv2()
            small = cv2.resize(crop, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
            _, jpeg = cv2.imencode(".jpg", small)
            self._thumbnails[id(track)] = (area, jpeg.tobytes())

    def _page(self) -> str:
        tracks = self._timeline.tracks()
        sections = "".join(self._section(index, tracks) for index in sorted(self._sources))
        emotions = list(dict.fromkeys([*COLORS, *(s.emotion for track in tracks for s in track.segments)]))
        key = "".join(f'<span><i style="background:{_color(each)}"></i>{_text(each)}</span>' for each in emotions)
        models = ", ".join(sorted(self._models)) or "none"
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>Expressions over time</title><style>{_STYLE}</style>"
            "<h1>Expressions over time</h1>"
            "<p>Apparent expressions of faces as a model classifies them, not felt emotions. "
            f"Model: {_text(models)}.</p>"
            f'<p class="key">{key}</p>{sections}</html>'
        )

    def _section(self, index: int, tracks: list[Track]) -> str:
        own = [track for track in tracks if track.source_index == index]
        end = self._ends.get(index)
        problems = "".join(f'<p class="problem">{_text(each)}</p>' for each in (end.problems if end else ()))
        shown = longest(own, MAX_TRACKS)
        more = "" if len(shown) == len(own) else f"<p>The {len(shown)} longest of {len(own)} tracks.</p>"
        rows = "".join(self._row(track) for track in shown)
        table = (
            f'{_timeline_svg(shown)}<div class="scroll"><table><tr><th>track<th><th>seen<th>frames'
            f"<th>most of the time<th>mean scores</tr>{rows}</table></div>"
            if shown
            else "<p>No face was found.</p>"
        )
        return (
            f"<h2>{_text(self._sources[index])}</h2>"
            f"<p>{self._frames[index]} frames, {self._analysed[index]} of them analysed.</p>"
            f"{problems}{more}{table}"
        )

    def _row(self, track: Track) -> str:
        _, jpeg = (self._thumbnails or {}).get(id(track), (0, b""))
        data = base64.b64encode(jpeg).decode()
        image = f'<img alt="" width="64" height="64" src="data:image/jpeg;base64,{data}">' if jpeg else ""
        emotion, count = track.emotion_counts.most_common(1)[0]
        top = sorted(track.mean_scores().items(), key=lambda each: -each[1])[:3]
        scores = ", ".join(f"{label} {score:.0%}" for label, score in top)
        return (
            f"<tr><td>{_text(track.name)}<td>{image}<td class=n>{track.begin_s:.1f} to {track.end_s:.1f} s"
            f"<td class=n>{track.face_count}<td>{_text(emotion)} ({count / track.face_count:.0%})"
            f"<td>{_text(scores)}</tr>"
        )


def _timeline_svg(tracks: list[Track]) -> str:
    begin_s, end_s = min(track.begin_s for track in tracks), max(track.end_s for track in tracks)
    scale, height = 860 / max(end_s - begin_s, 0.1), 22 * len(tracks) + 24
    parts = []
    for row, track in enumerate(tracks):
        parts.append(f'<text x="0" y="{22 * row + 15}" font-size="12">{_text(track.name)}</text>')
        for segment in track.segments:
            x, width = 90 + (segment.begin_s - begin_s) * scale, (segment.end_s - segment.begin_s) * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{22 * row + 3}" width="{max(width, 1.0):.1f}" height="16" '
                f'fill="{_color(segment.emotion)}" stroke="#5558" stroke-width=".5">'
                f"<title>{_text(segment.emotion)}, {segment.begin_s:.2f} to {segment.end_s:.2f} s</title></rect>"
            )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at_s = begin_s + share * (end_s - begin_s)
        anchor = "end" if share == 1.0 else "middle" if share else "start"
        parts.append(
            f'<text x="{90 + 860 * share:.0f}" y="{height - 4}" font-size="11" text-anchor="{anchor}">'
            f"{at_s:.1f} s</text>"
        )
    label = "Timeline of every track; the table below has the same figures"
    return f'<svg viewBox="0 0 960 {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _color(emotion: str) -> str:
    red, green, blue = COLORS.get(emotion, OTHER_COLOR)
    return f"rgb({red},{green},{blue})"


def _text(text: str) -> str:
    return html.escape(text)
