"""Finds and tracks the faces of one stream's frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ferserve_server.tracking.boxes import one_per_face
from ferserve_server.tracking.lifecycle import TrackSet, advance, cut, predicted
from ferserve_server.tracking.search import (
    REGION_SCALE,
    SearchState,
    Thumbnail,
    is_full_search_due,
    is_retry_due,
    is_scene_cut,
)

if TYPE_CHECKING:
    from ferserve_server.tracking.boxes import Box, Detection
    from ferserve_server.tracking.lifecycle import Track
    from ferserve_server.tracking.options import TrackingOptions

LOW_SCORE_SHARE: Final = 0.6
"""Score down to which a detection extends a track, as a share of the score that starts one (ByteTrack: 0.1 of 0.6;
YuNet's scores of turned faces drop from 0.9 to 0.5, those of lamps and hands rarely reach 0.4)."""


class FrameView(Protocol):
    """Represents one decoded frame that can be searched."""

    @property
    def size(self) -> tuple[int, int]:
        """Returns the width and height as shown, in pixels."""

    @property
    def high_score(self) -> float:
        """Returns the score from which a detection counts as certain, 0.0 to 1.0."""

    @property
    def max_local_searches(self) -> int:
        """Returns the number of local searches that cost as much as one of the full frame."""

    def thumbnail(self) -> Thumbnail:
        """Shrinks the frame."""

    def search(self, region: Box | None, score_threshold: float) -> list[Detection]:
        """Finds the faces of a square region, or of the full frame, from a score on."""


@dataclass(frozen=True, slots=True)
class FollowedFaces:
    """Holds the faces of one frame.

    Attributes:
        time_s: Time of the frame in the video.
        tracks: Those that are shown. A track without a detection is carried: its face was not found in this frame.
        ended: Tracks that ended with this frame.
        full_search: Whether the full frame was searched.
        scene_cut: Whether the frame shows another scene than the one before.
    """

    time_s: float
    tracks: tuple[Track, ...]
    ended: tuple[Track, ...]
    full_search: bool
    scene_cut: bool


class FaceFinder:
    """Tracks the faces of one stream. One frame at a time, in their order; any thread.

    Its state is bounded by `TrackingOptions.max_tracks`, however long the stream is.
    """

    def __init__(self, options: TrackingOptions) -> None:
        self._options = options
        self._tracks = TrackSet()
        self._search = SearchState()

    def find(self, view: FrameView, time_s: float) -> FollowedFaces:
        """Finds the faces of the next frame.

        Args:
            view: The frame.
            time_s: Its time in the video, in seconds, not below that of the frame before.
        """
        thumbnail = view.thumbnail()
        ended: tuple[Track, ...] = ()
        scene_cut = is_scene_cut(self._search.thumbnail, thumbnail)
        if scene_cut:
            self._tracks, ended = cut(self._tracks, time_s)
            self._search = SearchState()
        tracks = predicted(self._tracks, time_s)
        detections, full = self._detect(view, tracks, thumbnail)
        self._tracks, lost = advance(tracks, detections, view.high_score, self._options)
        self._search = self._search.after(
            time_s,
            thumbnail,
            full=full,
            found_new=_found_count(self._tracks) > _found_count(tracks),
            longest_s=self._options.full_search_interval_s,
        )
        return FollowedFaces(time_s, self._tracks.shown, ended + lost, full, scene_cut)

    def _detect(self, view: FrameView, tracks: TrackSet, thumbnail: Thumbnail) -> tuple[list[Detection], bool]:
        """Searches the frame; returns its faces, and whether all of it was searched."""
        threshold = LOW_SCORE_SHARE * view.high_score
        time_s = tracks.time_s
        followed = [each for each in tracks.tracks if each.detection is not None or each.is_shown(time_s)]
        known = [each.motion.box for each in followed]
        full = len(known) > view.max_local_searches or is_full_search_due(
            self._search,
            time_s,
            thumbnail,
            known,
            view.size,
            self._options,
            some_lost=len(followed) < len(tracks.tracks),
        )
        if not full:
            found = [view.search(box.squared(REGION_SCALE), threshold) for box in known]
            if all(found) or not is_retry_due(self._search, time_s):
                return one_per_face(each for faces in found for each in faces), False
        return one_per_face(view.search(None, threshold)), True


def _found_count(tracks: TrackSet) -> int:
    """Counts the tracks whose face was found in the newest frame."""
    return sum(each.detection is not None for each in tracks.tracks)
