"""Defines the ports between the frames of a stream and their consumers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.face import BoundingBox, DetectionOptions
    from ferserve_server.domain.ports import FoundFaces
    from ferserve_server.tracking.finder import FaceFinder
    from ferserve_server.tracking.lifecycle import Track


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """Describes one frame to search for faces.

    Attributes:
        image: The encoded picture.
        options: How to look for faces.
        finder: Follows the faces of the stream; None treats the frame like a single picture.
        time_s: Time of the frame in the video, in seconds.
    """

    image: bytes
    options: DetectionOptions
    finder: FaceFinder | None = None
    time_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FoundFrame:
    """Holds the faces of one frame.

    Attributes:
        found: The faces that were found in this frame, largest first.
        track_ids: Number of the track of each of them; empty without a finder.
        carried: Faces that are shown where the motion model puts them: number of the track and box.
        ended: Tracks that ended with this frame.
    """

    found: FoundFaces
    track_ids: tuple[int, ...] = ()
    carried: tuple[tuple[int, BoundingBox], ...] = ()
    ended: tuple[Track, ...] = ()


class FrameVision(Protocol):
    """Reads the frames of streams, off the event loop."""

    async def search_frame(
        self, pick: Callable[[], FrameRequest | None], caller: CallerId = UNKNOWN_CALLER
    ) -> FoundFrame | None:
        """Waits for a free thread, picks the frame to read, and finds its faces.

        The frame is chosen only when a thread is free, so that a stream under overload gives its newest one.
        Waiting callers are served round robin, those with pictures included.

        Args:
            pick: Returns the frame, or None if there is none any more. Called on the event loop, at most once.
            caller: The caller whose stream it is.

        Returns:
            Its faces; None if `pick` returned None.

        Raises:
            ImageFormatError: Not a JPEG, PNG or WebP.
            ImageUnreadableError: Broken or incomplete.
            LimitExceededError: More pixels than `max_image_pixels`; found before decoding.
            DrainingError: The threads were ended.
        """
