"""Watches one source: sends its frames, hands on the answers in order, and outlives lost servers."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ferserve_client.answers import Frame
from ferserve_client.errors import (
    CallCancelledError,
    DeadlineExceededError,
    EngineStalledError,
    FerserveError,
    QueueFullError,
    ServerFailedError,
    ServerUnavailableError,
)
from ferserve_client.video.opening import open_source
from ferserve_client.video.sources import VideoFrame, VideoSource, display_name
from ferserve_client.watch.feeds import EveryFrameFeed, Feed, NewestFrameFeed
from ferserve_client.watch.frames import SourceReport, WatchedFrame, scaled
from ferserve_client.watch.in_flight import InFlightFrame, InFlightFrames
from ferserve_client.watch.reopening import FIRST_WAIT_S, MAX_WAIT_S, ReopenedSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ferserve_client.answers import FrameAnswer
    from ferserve_client.client import EmotionClient
    from ferserve_client.options import OverloadPolicy
    from ferserve_client.watch.options import SessionOptions

LIVE_WINDOW = 2
"""Frames of a live source that may be unanswered: one is analysed while the next one travels."""

RECORDED_WINDOW = 16
"""Frames of a recorded video that may be unanswered: hides a round trip of 0.5 s at 30 frames a second."""

MAX_ENGINE_FAILURES = 3
"""Failures of one frame by a lost engine, after which its failure is its answer."""

_RETRIED = (
    ServerUnavailableError,
    DeadlineExceededError,
    QueueFullError,
    CallCancelledError,
    ServerFailedError,
)
"""Errors after which a stream is tried again: a killed server shows as any of them. Streams have no deadline, and
only the session cancels a call."""


class Session:
    """Watches one source on a thread of its own.

    Args:
        index: Index of the source among those that are watched.
        where: Name of the source.
        options: The options.
        connect: Opens a connection to the server; a new one after every loss.
        emit: Takes every frame in order, and at the end the report. It may block: the source is then held back, or
            its frames are dropped.
        notice: Takes a sentence for people when something is lost.
        explain: Makes a sentence for people of an error.
    """

    def __init__(
        self,
        index: int,
        where: str,
        options: SessionOptions,
        connect: Callable[[], EmotionClient],
        emit: Callable[[WatchedFrame | SourceReport], None],
        notice: Callable[[str], None],
        explain: Callable[[FerserveError], str],
    ) -> None:
        self.index = index
        self.name = display_name(where)
        self._where = where
        self._options = options
        self._connect = connect
        self._emit = emit
        self._notice = notice
        self._explain = explain
        self._lock = threading.RLock()
        self._in_flight = InFlightFrames()
        self._generation = 0
        self._client: EmotionClient | None = None
        self._stopped = threading.Event()
        self._reconnects = 0
        self._last_answered: int | None = None
        self._problems: list[str] = []
        self._source = open_source(where, options.answer_timeout_s)
        self.live = self._source.live
        self.duration_s = self._source.duration_s
        self.frame_count = self._source.frame_count
        self.policy: OverloadPolicy = options.policy or ("latest" if self.live else "every_frame")
        self._feed: Feed | None = None
        self._thread = threading.Thread(target=self._run, name=f"ferserve-watch-{index}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more frames; those on the way are answered. Any thread may call it."""
        self._stopped.set()
        feed = self._feed
        if feed is not None:
            feed.close()

    def abort(self) -> None:
        """End the running call, whatever is on the way."""
        client = self._client
        if client is not None:
            client.close()

    def close(self) -> None:
        """Give a source back that was never started."""
        if not self._thread.ident:
            self._source.close()

    def check(self, now_s: float) -> None:
        """End the running call if the server has not answered a frame in time."""
        with self._lock:
            oldest_s = self._in_flight.oldest_sent_s()
        if oldest_s is not None and now_s - oldest_s > self._options.answer_timeout_s:
            self.abort()

    def _run(self) -> None:
        try:
            self._feed = self._make_feed()
            if self._stopped.is_set():
                self._feed.close()
            self._stream_until_done()
            if self._feed.problem is not None:
                self._problems.append(self._feed.problem)
        except FerserveError as error:
            self._problems.append(self._explain(error))
        except Exception as error:  # noqa: BLE001 - one source never takes its neighbours with it
            self._problems.append(str(error) or type(error).__name__)
        finally:
            self.stop()
            with self._lock:
                self._generation += 1
            # Frames without an answer, after a stop or when the server was given up, are no part of the outputs.
            self._hand_on()
            if isinstance(self._feed, EveryFrameFeed):
                self._feed.end_reading()
                self._source.close()
            if self._source.damage:
                self._problems.append(str(self._source.damage))
            self._emit(SourceReport(self.index, self.name, tuple(self._problems), self._reconnects))

    def _make_feed(self) -> Feed:
        if self.policy == "every_frame" and not self.live:
            return EveryFrameFeed(self._source, self._lock)
        source: VideoSource | ReopenedSource = self._source
        if self.live:
            source = ReopenedSource(
                self._source,
                lambda: open_source(self._where, self._options.answer_timeout_s),
                self._options.patience_s,
                self._on_source_break,
            )
        return NewestFrameFeed(source, self._on_drop, lock=self._lock, in_real_time=not self.live)

    def _on_drop(self, frame: VideoFrame, newer_index: int) -> None:
        if not self._options.keep_pixels:
            frame.forget()
        self._in_flight.add_dropped(frame, newer_index)

    def _on_source_break(self, problem: str) -> None:
        self._reconnects += 1
        self._notice(f"{self.name}: {problem}; trying again")

    def _stream_until_done(self) -> None:
        """Stream until the source ends, over any number of connections.

        Raises:
            FerserveError: The server is lost for longer than the patience, or rejects the stream.
        """
        lost_since_s: float | None = None
        tries = 0
        while True:
            answered_before = self._last_answered
            try:
                self._stream_once()
            except _RETRIED as error:
                now_s = time.monotonic()
                if self._last_answered != answered_before or lost_since_s is None:
                    lost_since_s, tries = now_s, 0
                    self._reconnects += 1
                    if not self._stopped.is_set():
                        self._notice(f"{self.name}: lost the server ({_cause(error)}); trying again")
                if self._stopped.is_set():
                    return
                if now_s - lost_since_s > self._options.patience_s:
                    raise
                wait_s = min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** min(tries, 8))
                tries += 1
                self._stopped.wait(max(wait_s, error.retry_delay_s or 0.0))
            else:
                return

    def _stream_once(self) -> None:
        options = self._options
        with self._lock:
            self._generation += 1
            generation = self._generation
            if self.live:
                self._in_flight.drop_unanswered()
        self._hand_on()
        if self._feed is not None:
            self._feed.wake()
        with self._connect() as client:
            self._client = client
            answers = client.stream_frames(
                self._outgoing(generation),
                model=options.model,
                version=options.version,
                policy=self.policy,
                max_age_ms=options.max_age_ms,
                detection=options.detection,
                tracking=options.tracking,
                resumed_after_sequence_id=self._last_answered,
                max_unanswered_frames=LIVE_WINDOW if self.policy != "every_frame" else RECORDED_WINDOW,
            )
            for answer in answers:
                with self._lock:
                    if answer.error is not None and self._is_tried_again(answer.sequence_id, answer.error):
                        raise answer.error
                    self._last_answered = answer.sequence_id
                    self._in_flight.answered(answer)
                self._hand_on()
            self._client = None

    def _is_tried_again(self, sequence_id: int, error: FerserveError) -> bool:
        """Tell whether a frame of a recorded video that failed is sent again: when the server says "for now"."""
        if self.live or not isinstance(error, ServerUnavailableError | QueueFullError):
            return False
        # A frame that takes the engine down each time must not do so without end.
        failures = self._in_flight.count_failure(sequence_id)
        return not isinstance(error, EngineStalledError) or failures < MAX_ENGINE_FAILURES

    def _outgoing(self, generation: int) -> Iterator[Frame]:
        """Yield the frames of one connection: those that an earlier one left without an answer, then new ones."""
        with self._lock:
            left = self._in_flight.unanswered() if generation == self._generation else []
        for entry in left:
            if (frame := self._prepared(entry, generation)) is not None:
                yield frame
        feed = self._feed
        while feed is not None:
            taken = feed.take(lambda frame: self._in_flight.add(frame) if generation == self._generation else None)
            if taken is None or (frame := self._prepared(taken, generation)) is None:
                return
            yield frame

    def _prepared(self, entry: InFlightFrame, generation: int) -> Frame | None:
        if not entry.image:
            pixels = entry.frame.pixels()
            if pixels is None:
                return None
            entry.image = self._options.encoder.encode(pixels)
            if not self._options.keep_pixels:
                entry.frame.forget()
        with self._lock:
            if generation != self._generation:
                return None
            entry.sent_s = time.monotonic()
        return Frame(entry.frame.index, entry.image, entry.frame.time_s)

    def _hand_on(self) -> None:
        # Handed on without the lock: a slow output blocks here, and the main thread needs the lock to stop.
        with self._lock:
            complete = self._in_flight.pop_complete()
        now_s = time.monotonic()
        for entry in complete:
            if entry.answer is not None:
                answer = in_source(entry.answer, entry.frame)
                lag_s = max(0.0, now_s - entry.frame.arrived_s)
                self._emit(WatchedFrame(self.index, self.name, entry.frame, answer, lag_s))


def in_source(answer: FrameAnswer, frame: VideoFrame) -> FrameAnswer:
    """Return the answer in the pixels and on the clock of the source."""
    analysis = None if answer.analysis is None else scaled(answer.analysis, frame.width, frame.height)
    return replace(answer, analysis=analysis, time_s=frame.time_s)


def _cause(error: FerserveError) -> str:
    if isinstance(error, CallCancelledError):
        return "a frame was not answered in time"
    return (error.message or error.reason or error.code.name).rpartition(": ")[2].strip(" ]")
