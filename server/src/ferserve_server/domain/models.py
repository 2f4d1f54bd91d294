"""Defines the ports through which services use models: leases, catalog and changes.

`models.registry` implements them for the models of this process, `workers.remote_models` for those of another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from ferserve_server.domain.ports import ScoresFaces
    from ferserve_server.domain.servable import ModelDescription, ModelSpec, ModelStatus, ServableId


class Lease(Protocol):
    """Holds a version for one caller, for as long as the `with` block lasts. Event loop only."""

    @property
    def id(self) -> ServableId:
        """Returns the version. It may change during scoring: it is then the one that scored."""

    @property
    def description(self) -> ModelDescription:
        """Returns the manifest's description of the version that `id` names."""

    @property
    def scorer(self) -> ScoresFaces:
        """Returns the scorer of the version."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Acquire(Protocol):
    """Hands out leases. Event loop only."""

    def __call__(self, spec: ModelSpec, *, once: bool = False) -> Lease:
        """Takes a lease on the version that `spec` asks for.

        Args:
            spec: The model.
            once: The caller will score at most once: nobody need keep the version for a second time.

        Raises:
            ModelNotFoundError: No such model.
            VersionNotFoundError: The model has no such active version.
            AliasNotFoundError: The model has no such alias.
            ModelNotReadyError: The model has no active version yet.
            VersionNotReadyError: The alias names a version that is not active.
        """


class ModelChanges(Protocol):
    """Executes control calls; "" is the default model. Event loop only. For the errors see `ModelManager`."""

    def model(self, name: str) -> ModelStatus:
        """Returns one model's status, including every earlier change made here.

        Raises:
            ModelNotFoundError: No such model.
        """

    async def refresh(self) -> None:
        """Scans the model folder now, and loads and unloads as the policies decide."""

    async def load(self, name: str, version: int) -> None:
        """Loads a version and keeps it regardless of the policy."""

    async def unload(self, name: str, version: int) -> None:
        """Takes a version out of service until `load` brings it back."""

    async def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Makes an alias name a version, or removes it (None)."""

    async def promote(self, name: str, version: int | None = None) -> None:
        """Makes the canary the stable version."""

    async def roll_back(self, name: str, version: int | None = None) -> None:
        """Rolls back the canary, or else the active version."""


class Models(ModelChanges, Protocol):
    """Accesses the models of a service, wherever they are loaded. Event loop only."""

    @property
    def default_ready(self) -> bool:
        """Returns whether the default model answers requests that name no version."""

    @property
    def acquire(self) -> Acquire:
        """Returns the function that hands out leases."""

    def models(self) -> tuple[ModelStatus, ...]:
        """Returns the status of every model and its versions, by name."""
