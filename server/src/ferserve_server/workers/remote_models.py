"""Presents the primary process's models in a worker process; implements `domain.models.Models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferserve_server.models.catalog import CatalogSnapshot, ServiceState
from ferserve_server.workers.json_codec import read_value
from ferserve_server.workers.remote_lease import RemoteLease, Route
from ferserve_server.workers.remote_scorer import RemoteScorer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import numpy as np
    import numpy.typing as npt

    from ferserve_server.domain.ports import Clock
    from ferserve_server.domain.servable import ModelDescription, ModelSpec, ModelStatus, ServableId
    from ferserve_server.ipc.shared_memory import BlockAllocator
    from ferserve_server.workers.json_codec import Json

_NUMBERS: Final = 2**32

_MAX_BATCHES_IN_FLIGHT: Final = 2
"""Maximum number of batches whose faces may be unanswered while requests are grouped, because one batch runs
and the waiting faces are then one batch."""


class RemoteModels:
    """Sends faces to the primary process and tracks its models. Event loop only.

    Args of the constructor:
        memory: uint8 [bytes], shared with the primary process.
        allocator: Allocator of that memory.
        post: Sends a message of a request.
        call: Asks the primary process; see `RpcChannel.call`.
        clock: The time.
        rejected: Receives the reason why a request was not taken here.
        cancelled: See `RemoteScorer`.

    Attributes:
        process_count: Worker processes beside this one, and it.
        score_message: Takes in what the primary process says of a request.
    """

    def __init__(
        self,
        memory: npt.NDArray[np.uint8],
        allocator: BlockAllocator,
        *,
        post: Callable[[bytes], None],
        call: Callable[[str, object], Awaitable[Json]],
        clock: Clock,
        rejected: Callable[[str], None],
        cancelled: Callable[[str], None],
    ) -> None:
        self._call = call
        self._catalog = CatalogSnapshot(ServiceState("", default_ready=False))
        self._routes: dict[ModelSpec, Route] = {}
        self._scorer = RemoteScorer(
            memory,
            allocator,
            post=post,
            clock=clock,
            describe=self._describe,
            rejected=rejected,
            cancelled=cancelled,
        )
        self._last_lease = 0
        self.process_count = 1
        self.score_message = self._scorer.score_message

    @property
    def default_ready(self) -> bool:
        """Returns whether the default model answers requests that name no version."""
        return self._catalog.state.default_ready

    def acquire(self, spec: ModelSpec, *, once: bool = False) -> RemoteLease:
        """Takes a lease, which the primary process holds from the first faces on; see `domain.models.Acquire`."""
        route = self._routes.get(spec)
        if route is None:  # as many as there are versions and aliases
            route = self._routes[spec] = self._resolve_route(spec)
        self._last_lease = (self._last_lease + 1) % _NUMBERS
        return RemoteLease(self._scorer, route, self._last_lease, held=not once)

    def models(self) -> tuple[ModelStatus, ...]:
        """Returns every model with its versions, by name, as last reported."""
        return self._catalog.state.models

    def model(self, name: str) -> ModelStatus:
        """Returns one model, as last reported; "" is the default one.

        Raises:
            ModelNotFoundError: No such model.
        """
        return self._catalog.model(name)

    async def refresh(self) -> None:
        """Forwards the change; see `domain.models.ModelChanges`, also for the following methods."""
        await self._call("change", ["refresh"])

    async def load(self, name: str, version: int) -> None:  # noqa: D102 - see `refresh`
        await self._call("change", ["load", name, version])

    async def unload(self, name: str, version: int) -> None:  # noqa: D102 - see `refresh`
        await self._call("change", ["unload", name, version])

    async def set_alias(self, name: str, alias: str, version: int | None) -> None:  # noqa: D102 - see `refresh`
        await self._call("change", ["set_alias", name, alias, version])

    async def promote(self, name: str, version: int | None = None) -> None:  # noqa: D102 - see `refresh`
        await self._call("change", ["promote", name, version])

    async def roll_back(self, name: str, version: int | None = None) -> None:  # noqa: D102 - see `refresh`
        await self._call("change", ["roll_back", name, version])

    def apply_state(self, form: Json) -> None:
        """Applies a state of the models: a `ServiceState` as JSON."""
        self._catalog = CatalogSnapshot(read_value(form, ServiceState))
        self._routes = {}

    def _resolve_route(self, spec: ModelSpec) -> Route:
        servable, description = self._catalog.resolve(spec)
        model = self._catalog.model(servable.name)
        # The primary process decides and counts request by request which of them a canary gets.
        sizes = () if model.canary else next(each.bucket_sizes for each in model.versions if each.id == servable)
        largest = sizes[-1] if sizes else 0
        return Route(spec, servable, description, _MAX_BATCHES_IN_FLIGHT * largest // self.process_count)

    def _describe(self, servable: ServableId) -> ModelDescription | None:
        return self._catalog.description(servable)
