"""Gathers the faces of frames into tracks, and each track into segments of one emotion."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ferserve_client.faces import DetectedFace
    from ferserve_client.watch.frames import WatchedFrame

MAX_GAP_S: Final = 1.0
"""Longest time between two sightings of one segment. Frames that were dropped leave gaps shorter than that."""


@dataclass(slots=True)
class Segment:
    """Marks a time in which a track shows one emotion."""

    emotion: str
    begin_s: float
    end_s: float
    """Time of the last frame of the segment, in seconds of the source."""


@dataclass(slots=True)
class Track:
    """Follows one face of one source."""

    source_index: int
    source: str
    name: str
    """`#3`, `#3 (2)` after tracks began again, or `face 1` of untracked frames: the largest face."""
    segments: list[Segment] = field(default_factory=list)
    face_count: int = 0
    """Frames in which the face was classified."""
    emotion_counts: Counter[str] = field(default_factory=Counter)
    """Frames by emotion."""
    score_sums: Counter[str] = field(default_factory=Counter)
    """Sums of the scores by label; over `face_count` they are means."""

    @property
    def begin_s(self) -> float:
        """Return the time of the first sighting, in seconds of the source."""
        return self.segments[0].begin_s

    @property
    def end_s(self) -> float:
        """Return the time of the last sighting."""
        return self.segments[-1].end_s

    def mean_scores(self) -> dict[str, float]:
        """Return the mean probability of each label, 0 to 1."""
        return {label: total / self.face_count for label, total in self.score_sums.items()}


class Timeline:
    """Gathers tracks from frames, given in order per source. Not thread-safe."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[int, int, int, int], Track] = {}
        self._restarts: Counter[int] = Counter()

    def add(self, watched: WatchedFrame) -> list[tuple[Track, DetectedFace]]:
        """Take in a frame; return its classified faces with their tracks."""
        if watched.answer.tracks_restarted:
            self._restarts[watched.source_index] += 1
        found = []
        for rank, face in enumerate(watched.faces, start=1):
            if face.prediction is None:
                continue
            track = self._track_of(watched, face.track_id, rank)
            _extend(track, face.prediction.emotion, watched.answer.time_s)
            track.face_count += 1
            track.emotion_counts[face.prediction.emotion] += 1
            for label, score in face.prediction.scores.items():
                track.score_sums[label] += score  # type: ignore[assignment]  # Counter's type allows integers alone
            found.append((track, face))
        return found

    def tracks(self) -> list[Track]:
        """Return all tracks, by source and time of appearance."""
        return sorted(self._tracks.values(), key=lambda track: (track.source_index, track.begin_s))

    def _track_of(self, watched: WatchedFrame, track_id: int, rank: int) -> Track:
        restarts = self._restarts[watched.source_index]
        key = (watched.source_index, restarts, track_id, 0 if track_id else rank)
        if key not in self._tracks:
            again = f" ({restarts + 1})" if restarts else ""
            name = f"#{track_id}{again}" if track_id else f"face {rank}"
            self._tracks[key] = Track(watched.source_index, watched.source, name)
        return self._tracks[key]


def _extend(track: Track, emotion: str, time_s: float) -> None:
    last = track.segments[-1] if track.segments else None
    if last is not None and last.emotion == emotion and time_s - last.end_s <= MAX_GAP_S:
        last.end_s = time_s
        return
    if last is not None and time_s - last.end_s <= MAX_GAP_S:
        last.end_s = time_s
    track.segments.append(Segment(emotion, time_s, time_s))
