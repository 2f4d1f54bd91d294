"""Detects and scores the faces of pictures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import (
    FerserveError,
    ImageFormatError,
    ImageUnreadableError,
    InvalidRequestError,
)
from ferserve_server.domain.face import NotAFacePolicy
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.prediction import Analyses, ImageAnalysis, ScoredFaces
from ferserve_server.pipeline.decisions import decide, kept_rows, with_rows, without_marks

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.models import Acquire, Lease
    from ferserve_server.domain.ports import Vision
    from ferserve_server.domain.servable import ModelSpec

log = structlog.get_logger(__name__)

PICTURE_ERRORS: Final = (ImageFormatError, ImageUnreadableError, InvalidRequestError)
"""Errors that concern one picture. All others concern the server's state, and fail the call."""


class AnalyzeImages:
    """Implements AnalyzeImages and the analysis of StreamFrames. Event loop only."""

    def __init__(self, acquire: Acquire, vision: Vision) -> None:
        self._acquire = acquire
        self._vision = vision

    async def __call__(
        self,
        images: Sequence[bytes],
        spec: ModelSpec,
        options: DetectionOptions,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> Analyses:
        """Analyses pictures side by side; their faces go to the batcher as they are found.

        Args:
            images: JPEG, PNG or WebP; 1 or more.
            spec: The model.
            options: How to look for faces.
            deadline: When the answer must be there, on the server's clock, in seconds, or None.
            priority: How urgent it is beside others.
            caller: Whose pictures they are.

        Returns:
            One result per picture, in order: its analysis, or the error that is its own.

        Raises:
            FerserveError: The model is not there, or the server did not take the pictures or their faces.
        """
        alone = len(images) == 1
        with self._acquire(spec, once=alone) as lease:
            analyses = [self._analyze(image, lease, options, deadline, priority, caller) for image in images]
            results = (await analyses[0],) if alone else await _all_or_first_error(analyses)
            return Analyses(results, lease.description.labels, lease.id)

    async def _analyze(
        self,
        image: bytes,
        lease: Lease,
        options: DetectionOptions,
        deadline: float | None,
        priority: Priority,
        caller: CallerId,
    ) -> ImageAnalysis | FerserveError:
        try:
            found = await self._vision.find_faces(
                image, options, deadline=deadline, priority=priority, caller=caller
            )
        except PICTURE_ERRORS as error:
            return error
        except FerserveError:
            raise
        except Exception:
            log.exception("picture failed")
            return FerserveError("The server failed on this picture. Its log tells more.")
        if found.crops:
            crops = np.stack(found.crops)[..., np.newaxis]
            scored = await lease.scorer.score(crops, deadline=deadline, priority=priority, caller=caller)
            faces = decide(scored, lease.description)
        else:
            faces = ScoredFaces(np.zeros((0, len(lease.description.labels)), np.float32))
        # A picture that was sent as one face is answered as one: it is marked at most.
        policy = options.not_a_face_policy
        rows = kept_rows(faces, NotAFacePolicy.MARK if options.whole_image else policy)
        return ImageAnalysis(
            found.width,
            found.height,
            tuple(found.locations[row] for row in rows),
            without_marks(with_rows(faces, rows), policy),
            found.omitted_face_count,
            found.decode_s,
            found.detect_s,
        )


async def _all_or_first_error(
    work: Sequence[Coroutine[None, None, ImageAnalysis | FerserveError]],
) -> tuple[ImageAnalysis | FerserveError, ...]:
    """Runs everything side by side; the first error cancels the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as errors:  # not except*, which wraps what is raised in it in a group again
        raise errors.exceptions[0] from None
    return tuple(task.result() for task in tasks)
