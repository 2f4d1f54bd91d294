"""Keeps the frames of one source in order from their reading to their answers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferserve_client.answers import FrameAnswer

if TYPE_CHECKING:
    from ferserve_client.video.sources import VideoFrame

MAX_DROPPED_WITH_PIXELS = 32
"""Dropped frames that keep their pixels while they wait for the frames before them: about a second, and 200 MB of
1080p. Older ones are missing from saved videos, and are reported like all others."""


@dataclass(slots=True)
class InFlightFrame:
    """Holds one frame until its answer is handed on."""

    frame: VideoFrame
    dropped: bool = False
    """Whether it is never sent, because a newer frame replaced it while it waited."""
    image: bytes = b""
    """The frame as it is sent. Empty before it is encoded."""
    sent_s: float | None = None
    """Monotonic time at which it was sent last. None: not yet."""
    answer: FrameAnswer | None = None
    failure_count: int = 0
    """Times that the server failed on it for now."""


class InFlightFrames:
    """Orders frames that are sent, dropped and answered. Not thread-safe: its session holds a lock."""

    def __init__(self) -> None:
        self._frames: deque[InFlightFrame] = deque()

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: VideoFrame) -> InFlightFrame:
        """Take in a frame that is to be sent."""
        entry = InFlightFrame(frame)
        self._frames.append(entry)
        return entry

    def add_dropped(self, frame: VideoFrame, newer_index: int) -> None:
        """Take in a frame that is never sent, because a newer one replaced it while it waited."""
        answer = FrameAnswer(frame.index, newer_sequence_id=newer_index, time_s=frame.time_s)
        self._frames.append(InFlightFrame(frame, dropped=True, answer=answer))
        dropped = [each for each in self._frames if each.dropped]
        for each in dropped[:-MAX_DROPPED_WITH_PIXELS]:
            each.frame.forget()

    def answered(self, answer: FrameAnswer) -> None:
        """Set the answer of a frame; an answer to a frame that is not waiting is passed over."""
        for each in self._frames:
            if each.frame.index == answer.sequence_id and each.answer is None:
                each.answer = answer
                return

    def count_failure(self, sequence_id: int) -> int:
        """Count a failure of a frame that is sent again; return its failures so far."""
        entry = next((each for each in self._frames if each.frame.index == sequence_id), None)
        if entry is None:
            return 0
        entry.failure_count += 1
        return entry.failure_count

    def unanswered(self) -> list[InFlightFrame]:
        """Return the frames that were sent and have no answer, oldest first."""
        return [each for each in self._frames if each.answer is None]

    def oldest_sent_s(self) -> float | None:
        """Return the time at which the oldest frame without an answer was sent; None: there is none."""
        sent = (each.sent_s for each in self._frames if each.answer is None)
        return next((sent_s for sent_s in sent if sent_s is not None), None)

    def drop_unanswered(self) -> None:
        """Mark all frames without an answer as dropped, in favour of the frames to come."""
        for each in self.unanswered():
            newer = each.frame.index + 1
            each.answer = FrameAnswer(each.frame.index, newer_sequence_id=newer, time_s=each.frame.time_s)

    def pop_complete(self) -> list[InFlightFrame]:
        """Take out the frames at the front that have their answers."""
        complete = []
        while self._frames and self._frames[0].answer is not None:
            complete.append(self._frames.popleft())
        return complete
