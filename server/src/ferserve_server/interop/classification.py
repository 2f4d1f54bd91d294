"""Classifies the single input of a request, for interfaces that know whole tensors only."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.ports import Priority
from ferserve_server.interop.faces import MANY_NUMBERS
from ferserve_server.interop.pictures import in_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.face import CropBatch, DetectionOptions
    from ferserve_server.domain.models import Acquire
    from ferserve_server.domain.ports import Clock
    from ferserve_server.domain.prediction import Classification
    from ferserve_server.domain.servable import ModelDescription, ModelSpec, ServableId
    from ferserve_server.interop.statistics import RequestStatistics
    from ferserve_server.pipeline.analyze_images import AnalyzeImages
    from ferserve_server.pipeline.classify_faces import ClassifyFaces


Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Question:
    """Holds the parsed content of a request.

    Attributes:
        faces: uint8 [N, H, W, 1], or encoded crops; with `detect` encoded pictures.
        deadline: When the answer must be there, on the server's clock, in seconds, or None.
        priority: How urgent it is.
        detect: Whether faces are to be looked for in the pictures.
        caller: Whose request it is.
    """

    faces: CropBatch | list[bytes]
    deadline: float | None = None
    priority: Priority = Priority.INTERACTIVE
    detect: bool = False
    caller: CallerId = UNKNOWN_CALLER


class WholeTensors:
    """Answers a request for all of its faces or with one error, and counts it. Event loop only."""

    def __init__(
        self,
        acquire: Acquire,
        classify: ClassifyFaces,
        analyze: AnalyzeImages,
        *,
        detection: DetectionOptions,
        statistics: RequestStatistics,
        clock: Clock,
    ) -> None:
        self._acquire = acquire
        self._classify = classify
        self._analyze = analyze
        self._detection = detection
        self._statistics = statistics
        self._clock = clock

    def now(self) -> float:
        """Returns the time on the clock of deadlines, in seconds."""
        return self._clock.now()

    def describe(self, spec: ModelSpec) -> tuple[ServableId, ModelDescription]:
        """Returns the version that would answer now, and its manifest's description.

        Raises:
            FerserveError: It is not there.
        """
        with self._acquire(spec, once=True) as lease:
            return lease.id, lease.description

    async def answer(
        self,
        spec: ModelSpec,
        parse: Callable[[ModelDescription], Question],
        write: Callable[[Classification], Response],
        listed_count: int = 0,
    ) -> Response:
        """Reads, classifies, writes and counts one request.

        Args:
            spec: The model.
            parse: Reads the request for a model; may raise.
            write: Writes the answer, of a `PictureFaces` if the question was to look for faces; may raise.
            listed_count: Numbers that the request lists one by one; many are read on a thread.

        Raises:
            FerserveError: The request is wrong, the model not there, the faces not taken, or one of them failed:
                a tensor has no place for an error in a row.
        """
        started_at = self._clock.now()
        servable, description = self.describe(spec)
        try:
            many = listed_count > MANY_NUMBERS
            question = await asyncio.to_thread(parse, description) if many else parse(description)
            parsed_at = self._clock.now()
            found = await self._ask(question, spec)
            scored_at = self._clock.now()
            response = write(found)
        except BaseException:
            self._statistics.failed(servable, self._clock.now() - started_at)
            raise
        now = self._clock.now()
        self._statistics.answered(
            found.servable,
            total_s=now - started_at,
            queue_s=found.faces.queue_s,
            input_s=parsed_at - started_at,
            inference_s=found.faces.inference_s,
            output_s=now - scored_at,
        )
        return response

    async def _ask(self, question: Question, spec: ModelSpec) -> Classification:
        deadline, priority, caller = question.deadline, question.priority, question.caller
        if question.detect and isinstance(question.faces, list):
            return in_rows(
                await self._analyze(
                    question.faces, spec, self._detection, deadline=deadline, priority=priority, caller=caller
                )
            )
        if isinstance(question.faces, list):
            found = await self._classify.encoded(
                question.faces, spec, deadline=deadline, priority=priority, caller=caller
            )
        else:
            found = await self._classify.packed(
                question.faces, spec, deadline=deadline, priority=priority, caller=caller
            )
        for failure in found.faces.failures.values():
            raise failure
        return found
