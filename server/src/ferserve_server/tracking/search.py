"""Decides where to search for faces in a frame: everywhere, or near known ones. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.tracking.boxes import Box
    from ferserve_server.tracking.options import TrackingOptions

Thumbnail = npt.NDArray[np.uint8]
"""A frame shrunk to uint8 [THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH], grey levels 0-255."""

THUMBNAIL_WIDTH: Final = 32
THUMBNAIL_HEIGHT: Final = 18

MIN_CUT_CHANGE: Final = 14.0
"""Mean change of the grey levels of a thumbnail that a cut between scenes has at least."""

MAX_CUT_CORRELATION: Final = 0.6
"""Correlation of two thumbnails that a cut has at most. Flashes and fades change levels and keep the correlation;
people who move in front of a camera at rest keep it above 0.8 from frame to frame."""

MIN_RETRY_S: Final = 0.15
"""Shortest time between searches of the full frame that movement or a missing face asks for. It doubles with
every one that finds no new face: people who walk about in the background cost no more than a camera at rest."""

IDLE_SEARCH_S: Final = 0.25
"""Longest time between searches of the full frame while no face is known, or one is lost."""

MOVED_LEVELS: Final = 24
"""Change of a thumbnail's pixel that counts as movement. Noise and flicker of cameras stay below 10."""

MOVED_SHARE: Final = 0.02
"""Share of the thumbnail's pixels outside the known faces that has to move before the full frame is searched."""

REGION_SCALE: Final = 2.5
"""Side of the searched region in sides of the face's box: a head that moves by three quarters of its size is still
inside."""

FACE_SCALE: Final = 2.0
"""Side of the area around a known face whose movement asks for no search, in sides of its box: hair and
shoulders."""


@dataclass(frozen=True, slots=True)
class SearchState:
    """Holds the results of earlier searches.

    Attributes:
        full_at_s: Time of the last search of the full frame, or None before the first.
        full_thumbnail: The frame of that search.
        thumbnail: The frame before.
        retry_s: Shortest time until the next search that movement or a missing face asks for.
    """

    full_at_s: float | None = None
    full_thumbnail: Thumbnail | None = None
    thumbnail: Thumbnail | None = None
    retry_s: float = MIN_RETRY_S

    def after(
        self, time_s: float, thumbnail: Thumbnail, *, full: bool, found_new: bool, longest_s: float
    ) -> SearchState:
        """Returns the state after the search of a frame.

        Args:
            time_s: Time of the frame.
            thumbnail: The frame.
            full: Whether all of it was searched.
            found_new: Whether a face was found that was not followed.
            longest_s: Longest time between two searches of the full frame.
        """
        if not full:
            return replace(self, thumbnail=thumbnail)
        retry_s = MIN_RETRY_S if found_new else min(2 * self.retry_s, longest_s)
        return SearchState(time_s, thumbnail, thumbnail, retry_s)


def is_scene_cut(before: Thumbnail | None, after: Thumbnail) -> bool:
    """Returns whether two successive frames show different scenes."""
    if before is None:
        return False
    old, new = before.astype(np.float32), after.astype(np.float32)
    if float(np.abs(old - new).mean()) < MIN_CUT_CHANGE:
        return False
    old -= old.mean()
    new -= new.mean()
    norm = float(np.sqrt((old * old).sum() * (new * new).sum()))
    return bool(norm == 0.0 or float((old * new).sum()) / norm < MAX_CUT_CORRELATION)


def is_full_search_due(
    state: SearchState,
    time_s: float,
    thumbnail: Thumbnail,
    known: Sequence[Box],
    frame_size: tuple[int, int],
    options: TrackingOptions,
    *,
    some_lost: bool = False,
) -> bool:
    """Decides whether the full frame is searched.

    Args:
        state: The searches before.
        time_s: Time of the frame.
        thumbnail: The frame.
        known: Boxes of the faces that are followed.
        frame_size: Width and height of the frame in pixels.
        options: Options of tracking.
        some_lost: Whether a face is looked for that was not found lately.
    """
    if state.full_at_s is None or state.full_thumbnail is None:
        return True
    elapsed_s = time_s - state.full_at_s
    longest_s = options.full_search_interval_s
    if some_lost or not known:
        longest_s = min(longest_s, IDLE_SEARCH_S)
    if elapsed_s >= longest_s:
        return True
    return elapsed_s >= state.retry_s and _has_moved(state.full_thumbnail, thumbnail, known, frame_size)


def is_retry_due(state: SearchState, time_s: float) -> bool:
    """Decides whether the full frame is searched because a face was not found where it was expected."""
    return state.full_at_s is None or time_s - state.full_at_s >= state.retry_s


def _has_moved(before: Thumbnail, after: Thumbnail, known: Sequence[Box], frame_size: tuple[int, int]) -> bool:
    """Returns whether something changed outside the known faces."""
    moved = np.abs(before.astype(np.int16) - after) >= MOVED_LEVELS
    x_scale, y_scale = after.shape[1] / frame_size[0], after.shape[0] / frame_size[1]
    for box in known:
        around = box.squared(FACE_SCALE)
        top, left = max(0, int(around.top * y_scale)), max(0, int(around.left * x_scale))
        bottom = max(0, int((around.top + around.height) * y_scale) + 1)
        right = max(0, int((around.left + around.width) * x_scale) + 1)
        moved[top:bottom, left:right] = False
    return int(moved.sum()) >= MOVED_SHARE * int(moved.size)
