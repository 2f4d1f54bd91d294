"""Defines the ports to the servers that run the models, for a server that runs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.ports import Priority
    from ferserve_server.domain.servable import ModelSpec, ModelStatus, ServableId


@dataclass(frozen=True, slots=True)
class TierAnswer:
    """Holds the scores of a batch, all of one version.

    Attributes:
        scores: float32 [N, K], to the bit those of the server that answered; NaN in rows that its model failed on.
            [N, K + 1] where the version tells the probability that a crop shows no face.
        labels: Names of the classes, in the order of the columns.
        servable: The version that scored.
    """

    scores: Scores
    labels: tuple[str, ...]
    servable: ServableId


class ModelTier(Protocol):
    """Represents the servers that run models as one. Event loop only."""

    async def classify(
        self, crops: CropBatch, spec: ModelSpec, priority: Priority, timeout_s: float
    ) -> TierAnswer:
        """Scores a batch on one of the servers.

        Args:
            crops: uint8 [N, H, W, 1], N >= 1.
            spec: The model, by its name.
            priority: How urgent it is beside the work of others.
            timeout_s: Longest wait for the answer, tries again included, in seconds.

        Raises:
            FerserveError: What the server said, as it said it; DeadlineExpiredError after `timeout_s`;
                UpstreamUnavailableError if none answers.
        """

    async def models(self) -> tuple[ModelStatus, ...]:
        """Returns every model with its versions, by name, as one of the servers reports them.

        Raises:
            FerserveError: As above.
        """

    def reachable(self) -> AsyncIterator[bool]:
        """Yields whether any of the servers is ready: once at first, and again at every change."""
