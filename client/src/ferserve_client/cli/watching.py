"""Runs the sessions of several sources, and hands their frames to the outputs on one thread."""

import queue
import time
from collections.abc import Callable

from ferserve_client.cli.connection import Connection
from ferserve_client.outputs.output import OutputSet
from ferserve_client.video.sources import VideoUnreadableError
from ferserve_client.watch.frames import SourceReport, WatchedFrame
from ferserve_client.watch.options import SessionOptions
from ferserve_client.watch.session import Session

QUEUED_FRAMES = 16
"""Frames between the sessions and the outputs. Outputs that are slower hold recorded videos back, and live ones
drop frames."""

TICK_S = 0.2
"""Longest time until a signal, or a server that does not answer, is noticed."""

STOP_GRACE_S = 3.0
"""Time for which frames on their way are waited for after a signal."""


class Watching:
    """Opens sources and watches them together. A source that cannot be opened is named, and its neighbours go on.

    Args:
        sources: Names of the sources, 1 or more.
        options: Options of all sessions.
        connection: The server.
        complain: Takes a sentence about something that went wrong.

    Raises:
        MissingExtraError: A library that a source needs is not installed.
    """

    def __init__(
        self,
        sources: list[str],
        options: SessionOptions,
        connection: Connection,
        complain: Callable[[str], None],
    ) -> None:
        self._items: queue.Queue[WatchedFrame | SourceReport] = queue.Queue(QUEUED_FRAMES)
        self.sessions: list[Session] = []
        self.all_opened = True
        """Whether every source could be opened."""
        for index, where in enumerate(sources):
            try:
                session = Session(
                    index, where, options, connection.connect, self._items.put, complain, connection.explain
                )
                self.sessions.append(session)
            except VideoUnreadableError as error:
                self.all_opened = False
                complain(str(error))

    def run(self, outputs: OutputSet, asked_to_stop: Callable[[], bool]) -> None:
        """Watch until every source has ended, or until it is asked to stop and frames on the way are answered.

        Args:
            outputs: Takes the frames, on this thread.
            asked_to_stop: Tells whether to stop; asked every `TICK_S` and at every frame.
        """
        running = {session.index for session in self.sessions}
        for session in self.sessions:
            session.start()
        stopping_since_s: float | None = None
        while running:
            item = self._next_item()
            if isinstance(item, SourceReport):
                running.discard(item.source_index)
                outputs.end_source(item)
            elif item is not None:
                outputs.show(item)
            now_s = time.monotonic()
            if stopping_since_s is None and asked_to_stop():
                stopping_since_s = now_s
                self._each(Session.stop)
            for session in self.sessions:
                session.check(now_s)
            if stopping_since_s is not None and now_s - stopping_since_s > STOP_GRACE_S:
                self._each(Session.abort)
                if now_s - stopping_since_s > 2 * STOP_GRACE_S:
                    return  # a read that hangs; its thread ends with the process

    def close(self) -> None:
        """Stop all sessions, without waiting. A second time does nothing."""
        self._each(Session.stop)
        self._each(Session.close)

    def _next_item(self) -> WatchedFrame | SourceReport | None:
        try:
            return self._items.get(timeout=TICK_S)
        except queue.Empty:
            return None

    def _each(self, act: Callable[[Session], None]) -> None:
        for session in self.sessions:
            act(session)
