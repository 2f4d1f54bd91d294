"""Opens a live source again when it breaks off."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ferserve_client.video.sources import VideoUnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ferserve_client.video.sources import VideoFrame, VideoSource

FIRST_WAIT_S = 0.5
"""Wait before the first try to open a source again; doubles with every further one."""
MAX_WAIT_S = 5.0
"""Longest wait between two tries: a camera that comes back is seen within seconds."""


class ReopenedSource:
    """Yields the frames of a live source as one sequence, over any number of breaks. One thread reads it.

    Args:
        source: The source, open for the first time.
        reopen: Opens it again.
        patience_s: Time without a frame after which it is given up.
        on_break: Called with the problem at every break.
    """

    def __init__(
        self,
        source: VideoSource,
        reopen: Callable[[], VideoSource],
        patience_s: float,
        on_break: Callable[[str], None],
    ) -> None:
        self._source: VideoSource | None = source
        self._reopen = reopen
        self._patience_s = patience_s
        self._on_break = on_break
        self._stopped = threading.Event()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield frames with rising numbers and times until the source is stopped.

        Raises:
            VideoUnreadableError: No frame came within the patience.
        """
        index, began_s = 0, None
        last_frame_s = time.monotonic()
        tries = 0
        while not self._stopped.is_set():
            problem = "the stream ended"
            try:
                if self._source is None:
                    self._source = self._reopen()
                for frame in self._source.frames():
                    began_s = frame.arrived_s if began_s is None else began_s
                    last_frame_s, tries = frame.arrived_s, 0
                    frame.index, frame.time_s = index, frame.arrived_s - began_s
                    index += 1
                    yield frame
                    if self._stopped.is_set():
                        return
            except VideoUnreadableError as error:
                problem = str(error)
            self._close_source()
            if tries == 0 and not self._stopped.is_set():
                self._on_break(problem)
            if time.monotonic() - last_frame_s > self._patience_s:
                raise VideoUnreadableError(f"{problem}; given up after {self._patience_s:g} s without a frame")
            self._stopped.wait(min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** min(tries, 8)))
            tries += 1

    def stop(self) -> None:
        """End the sequence, from any thread. A read that hangs is not waited for."""
        self._stopped.set()

    def close(self) -> None:
        """Give the source back, on the reading thread."""
        self._close_source()

    def _close_source(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None
