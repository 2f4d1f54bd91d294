"""Runs picture reading on threads, behind a bounded queue."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from ferserve_server.domain import metrics
from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import DrainingError, FerserveError, QueueFullError
from ferserve_server.domain.ports import Priority
from ferserve_server.vision.decode_budget import DecodeBudget
from ferserve_server.vision.frame_search import find_in_frame
from ferserve_server.vision.picture_queue import PictureQueue
from ferserve_server.vision.picture_reader import YUNET, PictureReader, installed_detectors
from ferserve_server.vision.thread_priority import lower_priority
from ferserve_vision.crop import to_model_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ferserve_server.domain.face import CropBatch, DetectionOptions, FaceCrop
    from ferserve_server.domain.metrics import MetricsRecorder
    from ferserve_server.domain.ports import FoundFaces, VisionTracer
    from ferserve_server.tracking.ports import FoundFrame, FrameRequest
    from ferserve_server.vision.limits import VisionLimits
    from ferserve_vision.detectors.port import FaceDetector

T = TypeVar("T")

CROPS_PER_JOB: Final = 32
"""Maximum face crops that a thread reads before others: about 3 ms for JPEGs of 48x48."""

_INLINE_RESIZE_PIXELS: Final = 64 * 1024
"""Maximum number of pixels that are resized on the event loop, in about 0.2 ms; more go to a thread."""


class _Terms(NamedTuple):
    """Holds the deadline, priority and caller of a request."""

    deadline: float | None
    priority: Priority
    caller: CallerId


class VisionPool:
    """Reads pictures in threads of its own; implements `domain.ports.Vision`.

    A picture waits on the event loop until a thread is free for it: one whose caller leaves gives up its place
    and its bytes at once and is never decoded, nor is one whose deadline passes first. `PictureQueue` says whose
    turn it is.

    Thread-safety: event loop only, one loop for all calls.
    """

    def __init__(
        self,
        *,
        thread_count: int,
        limits: VisionLimits,
        detectors: Mapping[str, Callable[[], FaceDetector]] | None = None,
        recorder: MetricsRecorder,
        tracer: VisionTracer | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Loads a detector for each thread.

        Args:
            thread_count: Pictures that are read at once, 1 or more.
            limits: Bounds of pictures and of the queue.
            detectors: Makes a detector of each kind, in the thread that uses it; the first one is the default.
            recorder: Records every picture.
            tracer: Records those of sampled calls; None: nothing is traced.
            clock: Seconds from any start; measures decoding and detection, in the threads.
        """
        self._limits = limits
        self._recorder = recorder
        self._tracer = tracer
        self._clock = clock
        self._readers: SimpleQueue[PictureReader] = SimpleQueue()
        budget = DecodeBudget(max_bytes=limits.max_decode_bytes, max_s=limits.max_decode_s)
        factories = installed_detectors(YUNET) if detectors is None else detectors
        for _ in range(thread_count):
            self._readers.put(PictureReader(factories, limits=limits, budget=budget, clock=clock))
        self._threads = ThreadPoolExecutor(thread_count, thread_name_prefix="vision", initializer=lower_priority)
        self._queue = PictureQueue(thread_count=thread_count, max_images=limits.max_queue_images)
        self._held_bytes = 0
        recorder.read(metrics.QUEUE_DEPTH_IMAGES, lambda: self._queue.waiting_count)

    @property
    def waiting_count(self) -> int:
        """Returns the number of pictures that wait for a thread."""
        return self._queue.waiting_count

    async def find_faces(
        self,
        image: bytes,
        options: DetectionOptions,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> FoundFaces:
        """Decodes a picture and finds its faces; see `domain.ports.Vision`.

        Raises:
            ImageFormatError: Not a JPEG, PNG or WebP.
            ImageUnreadableError: Broken or incomplete.
            LimitExceededError: More pixels than `max_image_pixels`; found before decoding.
            UnsupportedError: The detector is not installed here.
            QueueFullError: `max_queue_images` wait already, or `max_queue_bytes` are held.
            DeadlineExpiredError: The deadline passed before a thread was free.
            DeadlineUnmeetableError: It would pass before the pictures are read.
            DrainingError: The pool was closed.
        """
        terms = _Terms(deadline, priority, caller)
        self._admit(1, len(image), terms)
        try:
            found = await self._in_thread(partial(self._find_faces, image, options), 1, len(image), terms)
        except Exception as error:
            self._report_failure(error)
            raise
        self._queue.record(found.decode_s + found.detect_s)
        self._record(found)
        return found

    async def search_frame(
        self, pick: Callable[[], FrameRequest | None], caller: CallerId = UNKNOWN_CALLER
    ) -> FoundFrame | None:
        """Finds the faces of the frame that `pick` chooses; see `tracking.ports.FrameVision`."""
        await self._queue.acquire(1, deadline=None, priority=Priority.INTERACTIVE, caller=caller)
        try:
            request = pick()
        except BaseException:
            self._queue.release()
            raise
        if request is None:
            self._queue.release()
            return None
        byte_count = len(request.image)
        self._held_bytes += byte_count
        try:
            frame = await self._run(partial(self._find_in_frame, request), byte_count)
        except Exception as error:
            self._report_failure(error)
            raise
        self._record(frame.found)
        return frame

    async def read_crops(
        self,
        images: Sequence[bytes],
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> list[FaceCrop | Exception]:
        """Decodes pictures that are face crops already, each to uint8 [48, 48] or to its error.

        They are taken together or not at all: a call that finds room in the queue may overfill it.

        Raises:
            QueueFullError: `max_queue_images` wait already, or `max_queue_bytes` are held.
            DeadlineExpiredError: The deadline passed before a thread was free.
            DeadlineUnmeetableError: It would pass before the pictures are read.
            DrainingError: The pool was closed.
        """
        terms = _Terms(deadline, priority, caller)
        self._admit(len(images), sum(map(len, images)), terms)
        started_at = self._clock()
        parts = [images[start : start + CROPS_PER_JOB] for start in range(0, len(images), CROPS_PER_JOB)]
        work = [
            asyncio.ensure_future(
                self._in_thread(partial(self._read_crops, part), len(part), sum(map(len, part)), terms)
            )
            for part in parts
        ]
        try:
            read = await asyncio.gather(*work)
        except BaseException:
            for each in work:  # one may have lost its place to another caller; the others are of no use then
                each.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            raise
        if self._tracer is not None:
            self._tracer.crops_read(len(images), self._clock() - started_at)
        crops = [crop for part in read for crop in part]
        for crop in crops:
            if isinstance(crop, Exception):
                self._report_failure(crop)
        return crops

    async def resize(self, crops: CropBatch) -> CropBatch:
        """Resizes raw crops, uint8 [N, H, W, 1], to uint8 [N, 48, 48, 1]; many pixels on a thread.

        Raises:
            QueueFullError: `max_queue_images` wait already, or `max_queue_bytes` are held.
            DrainingError: The pool was closed.
        """
        if crops.size <= _INLINE_RESIZE_PIXELS:
            return to_model_inputs(crops)
        terms = _Terms(None, Priority.INTERACTIVE, UNKNOWN_CALLER)
        self._admit(1, crops.nbytes, terms)
        return await self._in_thread(partial(to_model_inputs, crops), 1, crops.nbytes, terms)

    def close(self) -> None:
        """Ends the threads, waiting for the pictures in them; those still in the queue get DrainingError."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _admit(self, image_count: int, byte_count: int, terms: _Terms) -> None:
        self._queue.admit(image_count, terms.deadline, terms.caller)
        if self._held_bytes and self._held_bytes + byte_count > self._limits.max_queue_bytes:
            raise QueueFullError(
                what="MiB of images",
                queued=self._held_bytes // 2**20,
                limit=self._limits.max_queue_bytes // 2**20,
                setting="max_queue_image_mib",
                retry_after_s=self._queue.expected_wait_s,
            )

    async def _in_thread(self, work: Callable[[], T], image_count: int, byte_count: int, terms: _Terms) -> T:
        """Waits for a thread and runs `work` in it."""
        self._held_bytes += byte_count
        try:
            await self._queue.acquire(
                image_count, deadline=terms.deadline, priority=terms.priority, caller=terms.caller
            )
        except BaseException:
            self._held_bytes -= byte_count
            raise
        return await self._run(work, byte_count)

    async def _run(self, work: Callable[[], T], byte_count: int) -> T:
        """Runs `work` in a thread, for which a place was acquired; releases the place and the bytes.

        Work that has begun cannot be stopped: when its caller leaves, the place stays taken until it is done.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        try:
            self._threads.submit(work).add_done_callback(partial(self._report_done, loop, waiter, byte_count))
        except RuntimeError:  # the threads were shut down
            self._release(byte_count)
            raise DrainingError from None
        try:
            return await waiter
        finally:
            # An error's frames would hold the future that holds the error, and the picture with them, until the
            # garbage collector comes. asyncio.wrap_future makes such a cycle itself.
            del waiter, work

    def _report_done(
        self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[T], byte_count: int, done: Future[T]
    ) -> None:
        """Hands a result from a thread to the event loop."""
        with contextlib.suppress(RuntimeError):  # the loop was closed before the thread was done
            loop.call_soon_threadsafe(self._finish, waiter, byte_count, done)

    def _finish(self, waiter: asyncio.Future[T], byte_count: int, done: Future[T]) -> None:
        """Answers the caller, unless it has left, and frees the place."""
        self._release(byte_count)
        if waiter.done():
            return
        if done.cancelled():
            waiter.set_exception(DrainingError())
        elif (error := done.exception()) is not None:
            waiter.set_exception(error.with_traceback(None))
        else:
            waiter.set_result(done.result())

    def _release(self, byte_count: int) -> None:
        self._held_bytes -= byte_count
        self._queue.release()

    def _find_faces(self, image: bytes, options: DetectionOptions) -> FoundFaces:
        """Finds faces in a picture; runs in a thread."""
        reader = self._readers.get_nowait()  # there are as many as threads
        try:
            return reader.find(image, options)
        finally:
            self._readers.put(reader)

    def _find_in_frame(self, request: FrameRequest) -> FoundFrame:
        """Finds faces in a frame; runs in a thread."""
        reader = self._readers.get_nowait()
        try:
            return find_in_frame(reader, request)
        finally:
            self._readers.put(reader)

    def _read_crops(self, images: Sequence[bytes]) -> list[FaceCrop | Exception]:
        """Reads crops; runs in a thread."""
        reader = self._readers.get_nowait()
        try:
            return [_crop_or_error(reader, image) for image in images]
        finally:
            self._readers.put(reader)

    def _report_failure(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, FerserveError) else "INTERNAL"
        self._recorder.count(metrics.IMAGE_FAILURES, reason)

    def _record(self, found: FoundFaces) -> None:
        if self._tracer is not None:
            self._tracer.faces_found(found)
        self._recorder.observe(metrics.DECODE_SECONDS, found.decode_s)
        if found.detect_s > 0:  # a whole picture taken as one face is not searched
            self._recorder.observe(metrics.DETECT_SECONDS, found.detect_s)
        self._recorder.observe(metrics.DETECTED_FACES, len(found.locations) + found.omitted_face_count)


def _crop_or_error(reader: PictureReader, image: bytes) -> FaceCrop | Exception:
    """Reads one crop. An error is handed back without its traceback, whose frames hold the picture."""
    try:
        return reader.read_crop(image)
    except Exception as error:  # noqa: BLE001 - it belongs to this picture alone, and is handed back
        return error.with_traceback(None)
