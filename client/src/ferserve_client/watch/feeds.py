"""Feeds the frames of a source to its stream: all of them, or the newest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ferserve_client.video.sources import VideoFrame, VideoUnreadableError
from ferserve_client.watch.in_flight import InFlightFrame
from ferserve_client.watch.reopening import ReopenedSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferserve_client.video.sources import VideoSource


AddFrame = Callable[[VideoFrame], InFlightFrame | None]
"""Takes in a frame that is to be sent; None if the asking connection is over, and the frame is for the next one.
Called under the session's lock."""


class Feed(Protocol):
    """Gives frames to the connections of a session, one after the other."""

    problem: str | None
    """Reason for which the source broke off; None while it has not."""

    def take(self, add: AddFrame) -> InFlightFrame | None:
        """Wait for the next frame and add it; None at the end of the source, or if the connection is over."""

    def wake(self) -> None:
        """Let calls of `take` that wait find out that their connection is over."""

    def close(self) -> None:
        """End the feed: `take` returns None, now or later."""


class EveryFrameFeed:
    """Feeds all frames, read when they are asked for. For recorded videos.

    Args:
        source: The open source, which the caller closes.
        lock: Lock of the session. It is not held while a frame is read, which may take seconds from a URL.
    """

    def __init__(self, source: VideoSource, lock: threading.RLock) -> None:
        self.problem: str | None = None
        self._frames = source.frames()
        self._lock = lock
        self._reading = threading.Lock()
        self._held: VideoFrame | None = None
        self._closed = False

    def take(self, add: AddFrame) -> InFlightFrame | None:
        """Read the next frame and add it."""
        with self._reading:
            frame = self._held or self._read()
            if frame is None:
                return None
            with self._lock:
                entry = add(frame)
            self._held = frame if entry is None else None
            return entry

    def wake(self) -> None:
        """Do nothing: nobody waits here but for the source."""

    def close(self) -> None:
        """End the feed."""
        self._closed = True

    def end_reading(self) -> None:
        """Wait until no thread reads the source, so that it can be closed. None does so afterwards."""
        self._closed = True
        with self._reading:
            self._held = None

    def _read(self) -> VideoFrame | None:
        if self._closed:
            return None
        try:
            return next(self._frames, None)
        except VideoUnreadableError as error:
            self.problem = str(error)
            return None


class NewestFrameFeed:
    """Feeds the newest frame; a thread reads the source, and drops frames that were not sent in time, unconverted.

    Args:
        source: The source. It is read on a thread of the feed, and closed there at its end.
        on_drop: Called on that thread, under the lock, with every dropped frame and the index of the newer one.
        lock: Lock of the session, held while a frame is dropped or taken, so that both are seen in order.
        in_real_time: Whether frames are read no faster than their times say, as of a file that plays.
    """

    def __init__(
        self,
        source: VideoSource | ReopenedSource,
        on_drop: Callable[[VideoFrame, int], None],
        *,
        lock: threading.RLock,
        in_real_time: bool,
    ) -> None:
        self.problem: str | None = None
        self._source = source
        self._on_drop = on_drop
        self._in_real_time = in_real_time
        self._changed = threading.Condition(lock)
        self._wakings = 0
        self._newest: VideoFrame | None = None
        self._ended = False
        self._closed = threading.Event()
        # A daemon, because a camera or a connection may hold a read for seconds after the command is over.
        self._reader = threading.Thread(target=self._read, name="ferserve-read", daemon=True)
        self._reader.start()

    def take(self, add: AddFrame) -> InFlightFrame | None:
        """Wait for a frame that was not taken yet, and add it."""
        with self._changed:
            wakings = self._wakings
            self._changed.wait_for(
                lambda: (
                    self._newest is not None or self._ended or self._closed.is_set() or self._wakings != wakings
                )
            )
            if self._newest is None or self._closed.is_set():
                return None
            entry = add(self._newest)
            if entry is not None:
                self._newest = None
            return entry

    def wake(self) -> None:
        """Let calls of `take` that wait return."""
        with self._changed:
            self._wakings += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End the feed, without waiting for a read that hangs."""
        self._closed.set()
        if isinstance(self._source, ReopenedSource):
            self._source.stop()
        with self._changed:
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for frame in self._paced(self._source.frames()):
                if self._closed.is_set():
                    break
                self._offer(frame)
        except VideoUnreadableError as error:
            self.problem = str(error)
        finally:
            self._source.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _paced(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        began_s: float | None = None
        for frame in frames:
            if self._in_real_time:
                now_s = time.monotonic()
                began_s = now_s - frame.time_s if began_s is None else began_s
                self._closed.wait(max(0.0, began_s + frame.time_s - now_s))
                frame.arrived_s = time.monotonic()
            yield frame

    def _offer(self, frame: VideoFrame) -> None:
        with self._changed:
            passed_over, self._newest = self._newest, frame
            if passed_over is not None:
                self._on_drop(passed_over, frame.index)
            self._changed.notify_all()
