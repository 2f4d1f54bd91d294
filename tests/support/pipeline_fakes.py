"""Fakes of the ports that the pipelines use: a scorer without a queue and a vision without OpenCV."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.backends.fake import FakeServable, fake_scores
from ferserve_server.domain.face import BoundingBox
from ferserve_server.domain.ports import FoundFaces, Priority
from ferserve_server.domain.prediction import ScoredFaces
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.leases import LiveVersion
from support.fake_models import DESCRIPTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.domain.face import CropBatch, DetectionOptions, FaceCrop
    from ferserve_server.domain.ports import Servable
    from ferserve_server.domain.servable import ModelSpec
    from ferserve_server.models.leases import Lease

SERVABLE = ServableId("fer-nano", 3)


class FakeScorer:
    """Implements `domain.ports.FaceScorer` on the spot.

    Attributes:
        taken: Number of faces of every request.
        deadlines: Deadline of every request.
        priorities: Priority of every request.
        refuse_with: Error of every request, if it is set.
        row_failures: Failures that go with every answer, by row.
    """

    def __init__(self, servable: Servable | None = None) -> None:
        self.healthy = True
        self.taken: list[int] = []
        self.deadlines: list[float | None] = []
        self.priorities: list[Priority] = []
        self.refuse_with: Exception | None = None
        self.row_failures: dict[int, FerserveError] = {}
        self.drained = False
        self.closed = False
        self._servable = servable

    async def score(
        self, crops: CropBatch, *, deadline: float | None = None, priority: Priority = Priority.INTERACTIVE
    ) -> ScoredFaces:
        self.taken.append(len(crops))
        self.deadlines.append(deadline)
        self.priorities.append(priority)
        if self.refuse_with is not None:
            raise self.refuse_with
        return ScoredFaces(fake_scores(crops, 7), dict(self.row_failures), 0.001, 0.002)

    async def drain(self) -> None:
        self.drained = True

    async def close(self) -> None:
        self.closed = True
        if self._servable is not None:
            self._servable.close()


class FakeModels:
    """One version in force; `acquire` is what the pipelines call."""

    def __init__(self, scorer: FakeScorer) -> None:
        self.version = LiveVersion(FakeServable(SERVABLE, DESCRIPTION), scorer)
        self.asked: list[ModelSpec] = []
        self.refuse_with: FerserveError | None = None

    def acquire(self, spec: ModelSpec, *, once: bool = False) -> Lease:
        self.asked.append(spec)
        if self.refuse_with is not None:
            raise self.refuse_with
        return self.version.lease()

    @property
    def is_leased(self) -> bool:
        return not self.version._unleased.is_set()


class FakeVision:
    """Implements `domain.ports.Vision`: a picture shows one face, whose class is the sum of the picture's bytes.

    Attributes:
        errors: What a picture fails with, by its bytes.
        without_face: Pictures that show no face.
        gates: Pictures that are not answered before their event is set.
        began: Pictures in the order in which their reading began.
        cancelled: Pictures whose caller left.
    """

    def __init__(self) -> None:
        self.errors: dict[bytes, Exception] = {}
        self.without_face: set[bytes] = set()
        self.gates: dict[bytes, asyncio.Event] = {}
        self.began: list[bytes] = []
        self.cancelled: list[bytes] = []

    def hold(self, *images: bytes) -> None:
        for image in images:
            self.gates[image] = asyncio.Event()

    async def find_faces(self, image: bytes, options: DetectionOptions) -> FoundFaces:
        self.began.append(image)
        try:
            if image in self.gates:
                await self.gates[image].wait()
        except asyncio.CancelledError:
            self.cancelled.append(image)
            raise
        if image in self.errors:
            raise self.errors[image]
        if image in self.without_face:
            return FoundFaces(640, 480, (), (), 0, 0.001, 0.002)
        box = BoundingBox(left=1, top=2, width=48, height=48)
        return FoundFaces(640, 480, (box,), (crop_of(image),), 0, 0.001, 0.002)

    async def read_crops(self, images: Sequence[bytes]) -> list[FaceCrop | Exception]:
        return [self.errors[image] if image in self.errors else crop_of(image) for image in images]

    def resize(self, crops: CropBatch) -> CropBatch:
        return np.full((len(crops), 48, 48, 1), crops[0, 0, 0, 0], np.uint8)


def crop_of(image: bytes) -> FaceCrop:
    """The face that a picture of these bytes shows: uint8 [48, 48], with their sum modulo 7 in a corner."""
    crop = np.zeros((48, 48), np.uint8)
    crop[0, 0] = class_of(image)
    return crop


def class_of(image: bytes) -> int:
    """The class that `FakeScorer` gives to the face of a picture of these bytes."""
    return sum(image) % 7
