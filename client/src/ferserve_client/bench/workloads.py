"""Makes the calls and streams of a load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ferserve_client.answers import Frame
from ferserve_client.bench.measurement import OK
from ferserve_client.errors import FerserveError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

    from ferserve_client.aio_client import AsyncEmotionClient
    from ferserve_client.answers import BatchAnswer, FrameAnswer

CallKind = Literal["classify", "analyze", "classify_stream", "stream_frames"]
"""`classify`: face crops. `analyze`: pictures. The other two are the same over streams."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Makes calls of one kind."""

    kind: CallKind
    faces: int = 1
    """Crops of one call of `classify` and `classify_stream`, 1 or more."""
    images: tuple[bytes, ...] = ()
    """Encoded pictures, sent cyclically by `analyze` and `stream_frames`."""
    images_per_call: int = 1
    """Pictures of one call of `analyze`, 1 or more."""
    model: str = ""
    version: str | None = None
    timeout_s: float = 10.0

    @property
    def streams(self) -> bool:
        """Tell whether it is made of streams."""
        return self.kind in {"classify_stream", "stream_frames"}

    @property
    def items_per_call(self) -> int:
        """Return the faces or pictures of one call or message."""
        counts = {"analyze": self.images_per_call, "stream_frames": 1}
        return counts.get(self.kind, self.faces)

    async def call(self, client: AsyncEmotionClient, number: int) -> str:
        """Make one unary call; return its outcome: `OK`, or the reason of the first failure in it."""
        try:
            if self.kind == "classify":
                await client.classify(
                    self._crops(number), model=self.model, version=self.version, timeout_s=self.timeout_s
                )
                return OK
            first = number * self.images_per_call
            pictures = [self.images[(first + each) % len(self.images)] for each in range(self.images_per_call)]
            results = await client.analyze(
                pictures, model=self.model, version=self.version, timeout_s=self.timeout_s
            )
        except FerserveError as error:
            return reason_of(error)
        errors = [analysis.error for analysis in results if analysis.error is not None]
        return reason_of(errors[0]) if errors else OK

    def stream(
        self, client: AsyncEmotionClient, numbers: AsyncIterable[int], window: int
    ) -> AsyncGenerator[FrameAnswer | BatchAnswer, None]:
        """Begin a stream that sends one message per number."""
        if self.kind == "stream_frames":
            return client.stream_frames(
                self._frames(numbers),
                model=self.model,
                version=self.version,
                policy="every_frame",
                max_unanswered_frames=window,
            )
        return client.classify_stream(
            self._batches(numbers), model=self.model, version=self.version, max_unanswered_batches=window
        )

    async def _frames(self, numbers: AsyncIterable[int]) -> AsyncGenerator[Frame, None]:
        async for number in numbers:
            yield Frame(number, self.images[number % len(self.images)])

    async def _batches(self, numbers: AsyncIterable[int]) -> AsyncGenerator[np.ndarray, None]:
        async for number in numbers:
            yield self._crops(number)

    def _crops(self, number: int) -> np.ndarray:
        # Noise of its own per call: a server that keeps answers gains nothing.
        return np.random.default_rng(number).integers(0, 256, (self.faces, 48, 48), np.uint8)


def reason_of(error: FerserveError) -> str:
    """Return the outcome of a failure."""
    return error.reason or error.code.name
