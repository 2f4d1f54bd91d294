"""Fakes the ports that the pipelines use: a scorer without a queue and a vision without OpenCV."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.backends.fake import FakeServable, fake_answer
from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import DrainingError
from ferserve_server.domain.face import BoundingBox, FaceLocation
from ferserve_server.domain.ports import FoundFaces, Priority
from ferserve_server.domain.prediction import ScoredFaces
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.leases import LiveVersion
from ferserve_server.tracking.ports import FoundFrame
from support.fake_models import DESCRIPTION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.domain.face import CropBatch, DetectionOptions, FaceCrop
    from ferserve_server.domain.ports import Servable
    from ferserve_server.domain.servable import ModelSpec
    from ferserve_server.models.leases import Lease
    from ferserve_server.tracking.ports import FrameRequest

SERVABLE = ServableId("fer-nano", 3)


class FakeScorer:
    """Implements `domain.ports.FaceScorer` on the spot.

    Attributes:
        taken: Number of faces of every request.
        deadlines: Deadline of every request.
        priorities: Priority of every request.
        reject_with: Error of every request, if it is set.
        description: What the version's manifest says; see `fake_answer`.
        row_failures: Failures that go with every answer, by row.
        hold_next: Keeps the next request from being answered until it is set.
    """

    def __init__(self, servable: Servable | None = None) -> None:
        self.healthy = True
        self.taken: list[int] = []
        self.deadlines: list[float | None] = []
        self.priorities: list[Priority] = []
        self.callers: list[CallerId] = []
        self.reject_with: Exception | None = None
        self.row_failures: dict[int, FerserveError] = {}
        self.hold_next: asyncio.Event | None = None
        self.drained = False
        self.closed = False
        self._servable = servable
        self.description = DESCRIPTION

    async def score(
        self,
        crops: CropBatch,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> ScoredFaces:
        self.taken.append(len(crops))
        held, self.hold_next = self.hold_next, None
        if held is not None:
            await held.wait()
        self.deadlines.append(deadline)
        self.priorities.append(priority)
        self.callers.append(caller)
        if self.reject_with is not None:
            raise self.reject_with
        return ScoredFaces(fake_answer(crops, self.description), dict(self.row_failures), 0.001, 0.002)

    async def drain(self) -> None:
        self.drained = True

    async def close(self) -> None:
        self.closed = True
        if self._servable is not None:
            self._servable.close()


class FakeModels:
    """One active version; `acquire` is what the pipelines call."""

    def __init__(self, scorer: FakeScorer) -> None:
        self.version = LiveVersion(FakeServable(SERVABLE, scorer.description), scorer)
        self.asked: list[ModelSpec] = []
        self.reject_with: FerserveError | None = None

    def acquire(self, spec: ModelSpec, *, once: bool = False) -> Lease:
        self.asked.append(spec)
        if self.reject_with is not None:
            raise self.reject_with
        return self.version.lease()

    @property
    def is_leased(self) -> bool:
        return not self.version._unleased.is_set()


class FakeVision:
    """Implements `domain.ports.Vision` and `tracking.ports.FrameVision`.

    A picture shows one face, whose class is the sum of the picture's bytes.

    Attributes:
        errors: What a picture fails with, by its bytes.
        without_face: Pictures that show no face.
        unblocked: Pictures that are not answered before their event is set.
        began: Pictures in the order in which their reading began.
        cancelled: Pictures whose caller left.
        closed: Whether frames are rejected because the threads were ended.
    """

    def __init__(self) -> None:
        self.errors: dict[bytes, Exception] = {}
        self.without_face: set[bytes] = set()
        self.unblocked: dict[bytes, asyncio.Event] = {}
        self.began: list[bytes] = []
        self.cancelled: list[bytes] = []
        self.closed = False
        self.terms: list[dict[str, object]] = []

    def hold(self, *images: bytes) -> None:
        for image in images:
            self.unblocked[image] = asyncio.Event()

    async def find_faces(self, image: bytes, options: DetectionOptions, **terms: object) -> FoundFaces:
        self.began.append(image)
        self.terms.append(terms)
        try:
            if image in self.unblocked:
                await self.unblocked[image].wait()
        except asyncio.CancelledError:
            self.cancelled.append(image)
            raise
        if image in self.errors:
            raise self.errors[image]
        if image in self.without_face:
            return FoundFaces(640, 480, (), (), 0, 0.001, 0.002)
        box = BoundingBox(left=1, top=2, width=48, height=48)
        return FoundFaces(640, 480, (FaceLocation(box),), (crop_of(image),), 0, 0.001, 0.002)

    async def search_frame(
        self, pick: Callable[[], FrameRequest | None], caller: CallerId = UNKNOWN_CALLER
    ) -> FoundFrame | None:
        """Finds the face at once; with a finder it is a track of its own, numbered 1."""
        if self.closed:
            raise DrainingError
        request = pick()
        if request is None:
            return None
        found = await self.find_faces(request.image, request.options)
        return FoundFrame(found, tuple(1 for _ in found.locations) if request.finder else ())

    async def read_crops(self, images: Sequence[bytes], **terms: object) -> list[FaceCrop | Exception]:
        self.terms.append(terms)
        return [self.errors[image] if image in self.errors else crop_of(image) for image in images]

    async def resize(self, crops: CropBatch) -> CropBatch:
        return np.full((len(crops), 48, 48, 1), crops[0, 0, 0, 0], np.uint8)


def crop_of(image: bytes) -> FaceCrop:
    """The face that a picture of these bytes shows: uint8 [48, 48], with their sum modulo 7 in a corner."""
    crop = np.zeros((48, 48), np.uint8)
    crop[0, 0] = class_of(image)
    return crop


def class_of(image: bytes) -> int:
    """The class that `FakeScorer` gives to the face of a picture of these bytes."""
    return sum(image) % 7
