"""Feeds the frames of a source to its stream: all of them, or the newest."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from ferserve_client.video.sources import VideoFrame, VideoUnreadableError
from ferserve_client.watch.reopening import ReopenedSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ferserve_client.video.sources import VideoSource


class Feed(Protocol):
    """Gives the next frame to send."""

    problem: str | None
    """Reason for which the source broke off; None while it has not."""

    def next_frame(self) -> VideoFrame | None:
        """Wait for the next frame; None at the end of the source."""

    def close(self) -> None:
        """End the feed: `next_frame` returns None, now or later."""


class EveryFrameFeed:
    """Feeds all frames, read when they are asked for. For recorded videos.

    Args:
        source: The open source, which the caller closes.
    """

    def __init__(self, source: VideoSource) -> None:
        self.problem: str | None = None
        self._frames = source.frames()
        self._closed = False

    def next_frame(self) -> VideoFrame | None:
        """Read the next frame; None at the end."""
        if self._closed:
            return None
        try:
            return next(self._frames, None)
        except VideoUnreadableError as error:
            self.problem = str(error)
            return None

    def close(self) -> None:
        """End the feed."""
        self._closed = True


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
        self._newest: VideoFrame | None = None
        self._ended = False
        self._closed = threading.Event()
        # A daemon, because a camera or a connection may hold a read for seconds after the command is over.
        self._reader = threading.Thread(target=self._read, name="ferserve-read", daemon=True)
        self._reader.start()

    def next_frame(self) -> VideoFrame | None:
        """Wait for a frame that was not taken yet; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended or self._closed.is_set())
            frame, self._newest = self._newest, None
            return None if self._closed.is_set() else frame

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
