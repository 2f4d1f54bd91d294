"""The threads that read pictures, and the queue before them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from ferserve_server.domain.errors import DrainingError, FerserveError, QueueFullError
from ferserve_server.domain.face import BoundingBox
from ferserve_server.domain.ports import FoundFaces
from ferserve_server.vision.crop import crop_face, to_model_input, to_model_inputs
from ferserve_server.vision.decode import decode_grey, decode_pixels, read_bounded_header
from ferserve_server.vision.haar import HaarDetector
from ferserve_server.vision.reduction import reduction_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.face import CropBatch, DetectionOptions, FaceCrop
    from ferserve_server.vision.opencv import GreyImage

T = TypeVar("T")

CROPS_PER_TURN: Final = 32
"""Face crops that a thread reads before others get their turn: about 3 ms for JPEGs of 48x48."""

_FIRST_PICTURE_S: Final = 0.08
"""What a picture is taken to cost until some were read: 640x480 takes about that with the default options."""

_NEWEST_SHARE: Final = 0.1
"""Weight of the newest picture in the running mean of their cost."""


class FaceDetector(Protocol):
    """Finds faces. One thread at a time."""

    def detect(
        self, grey: GreyImage, options: DetectionOptions, shown_size: tuple[int, int] | None = None
    ) -> list[BoundingBox]:
        """Finds the faces of uint8 [H, W], in pixels of the size shown (by default its own), largest first."""


class VisionObserver(Protocol):
    """Is told of every picture. Event loop only; must not raise or block."""

    def faces_found(self, found: FoundFaces) -> None:
        """A picture was searched; `detect_s` is 0.0 if it was taken as one face instead."""

    def image_failed(self, reason: str) -> None:
        """A picture or an encoded crop could not be read, by the reason of its error."""


class VisionPool:
    """Reads pictures in threads of its own; implements `domain.ports.Vision`.

    A picture waits on the event loop until a thread is free for it: one whose caller leaves gives up its place
    and its bytes at once and is never decoded. Waiting pictures get their turn in the order of arrival.

    Thread-safety: event loop only, one loop for all calls.
    """

    def __init__(
        self,
        *,
        thread_count: int,
        max_image_pixels: int,
        max_faces_per_image: int,
        max_queue_images: int,
        make_detector: Callable[[], FaceDetector] = HaarDetector,
        observer: VisionObserver | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Loads a detector for each thread.

        Args:
            thread_count: Pictures that are read at once, 1 or more.
            max_image_pixels: Most pixels of a picture, checked before it is decoded.
            max_faces_per_image: Most faces of a picture that are kept, the largest; the rest is counted.
            max_queue_images: Most pictures that wait, 0 or more, those being read not counted.
            make_detector: Makes what finds faces; called `thread_count` times.
            observer: Is told of every picture.
            clock: Seconds from any start; measures decoding and detection, in the threads.
        """
        self._thread_count = thread_count
        self._max_image_pixels = max_image_pixels
        self._max_faces_per_image = max_faces_per_image
        self._max_queue_images = max_queue_images
        self._observer = observer
        self._clock = clock
        self._detectors: SimpleQueue[FaceDetector] = SimpleQueue()
        for _ in range(thread_count):
            self._detectors.put(make_detector())
        self._threads = ThreadPoolExecutor(thread_count, thread_name_prefix="vision")
        self._places = asyncio.Semaphore(thread_count)
        self._waiting_count = 0
        self._picture_s = _FIRST_PICTURE_S

    @property
    def waiting_count(self) -> int:
        """Pictures that wait for a thread."""
        return self._waiting_count

    async def find_faces(self, image: bytes, options: DetectionOptions) -> FoundFaces:
        """Decodes a picture and finds its faces; see `domain.ports.Vision`.

        Raises:
            ImageFormatError: Not a JPEG, PNG or WebP.
            ImageUnreadableError: Broken or incomplete.
            LimitExceededError: More pixels than `max_image_pixels`; found before decoding.
            QueueFullError: `max_queue_images` wait already.
            DrainingError: The pool was closed.
        """
        self._admit()
        try:
            found = await self._in_thread(partial(self._find_faces, image, options), image_count=1)
        except Exception as error:
            self._tell_failure(error)
            raise
        self._picture_s += _NEWEST_SHARE * (found.decode_s + found.detect_s - self._picture_s)
        if self._observer is not None:
            self._observer.faces_found(found)
        return found

    async def read_crops(self, images: Sequence[bytes]) -> list[FaceCrop | Exception]:
        """Decodes pictures that are face crops already, each to uint8 [48, 48] or to its error.

        They are taken together or not at all: a call that finds room in the queue may overfill it.

        Raises:
            QueueFullError: `max_queue_images` wait already.
            DrainingError: The pool was closed.
        """
        self._admit()
        turns = [images[start : start + CROPS_PER_TURN] for start in range(0, len(images), CROPS_PER_TURN)]
        parts = await asyncio.gather(
            *(self._in_thread(partial(self._read_crops, turn), image_count=len(turn)) for turn in turns)
        )
        crops = [crop for part in parts for crop in part]
        for crop in crops:
            if isinstance(crop, Exception):
                self._tell_failure(crop)
        return crops

    def resize(self, crops: CropBatch) -> CropBatch:
        """Resizes raw crops, uint8 [N, H, W, 1], to uint8 [N, 48, 48, 1].

        Thread-safety: any thread. Crops of 120x120 take about 30 us each.
        """
        return to_model_inputs(crops)

    def close(self) -> None:
        """Ends the threads, waiting for the pictures in them; those still in the queue get DrainingError."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _admit(self) -> None:
        if self._places.locked() and self._waiting_count >= self._max_queue_images:
            raise QueueFullError(
                what="images",
                queued=self._waiting_count,
                limit=self._max_queue_images,
                setting="max_queue_images",
                retry_after_s=self._picture_s * max(1, self._waiting_count) / self._thread_count,
            )

    async def _in_thread(self, work: Callable[[], T], *, image_count: int) -> T:
        """Waits for a thread and runs `work` in it.

        Work that has begun cannot be stopped: when its caller leaves, the place stays taken until it is done.
        """
        loop = asyncio.get_running_loop()
        self._waiting_count += image_count
        try:
            await self._places.acquire()
        finally:
            self._waiting_count -= image_count
        try:
            future = self._threads.submit(work)
        except RuntimeError:  # the threads were shut down
            self._places.release()
            raise DrainingError from None

        def give_place_back(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed before the thread was done
                loop.call_soon_threadsafe(self._places.release)

        future.add_done_callback(give_place_back)
        return await asyncio.wrap_future(future)

    def _find_faces(self, image: bytes, options: DetectionOptions) -> FoundFaces:
        """Runs in a thread."""
        started = self._clock()
        header = read_bounded_header(image, self._max_image_pixels)
        grey = decode_pixels(image, header, reduction_for(header, options))
        decoded = self._clock()
        width, height = header.shown_size
        if options.whole_image:
            box = BoundingBox(left=0, top=0, width=width, height=height)
            return FoundFaces(width, height, (box,), (to_model_input(grey),), 0, decoded - started, 0.0)
        detector = self._detectors.get_nowait()  # there are as many as threads
        try:
            boxes = detector.detect(grey, options, header.shown_size)
        finally:
            self._detectors.put(detector)
        kept = tuple(boxes[: self._max_faces_per_image])
        crops = tuple(crop_face(grey, box, options.crop_margin, header.shown_size) for box in kept)
        detected = self._clock()
        omitted = len(boxes) - len(kept)
        return FoundFaces(width, height, kept, crops, omitted, decoded - started, detected - decoded)

    def _read_crops(self, images: Sequence[bytes]) -> list[FaceCrop | Exception]:
        """Runs in a thread."""
        return [self._read_crop(image) for image in images]

    def _read_crop(self, image: bytes) -> FaceCrop | Exception:
        try:
            return to_model_input(decode_grey(image, self._max_image_pixels))
        except Exception as error:  # noqa: BLE001 - it belongs to this picture alone, and is handed back
            return error

    def _tell_failure(self, error: Exception) -> None:
        if self._observer is not None:
            self._observer.image_failed(error.reason if isinstance(error, FerserveError) else "INTERNAL")
