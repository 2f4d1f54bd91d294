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
    """A version that answers one caller, for as long as the `with` block lasts. Event loop only."""

    @property
    def id(self) -> ServableId:
        """The version. It may be another one after scoring: that is then the one that scored."""

    @property
    def description(self) -> ModelDescription:
        """What its manifest says; of the version that `id` names."""

    @property
    def scorer(self) -> ScoresFaces:
        """What scores."""

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
            VersionNotFoundError: The model has no such version in force.
            AliasNotFoundError: The model has no such alias.
            ModelNotReadyError: The model has no version in force yet.
            VersionNotReadyError: The alias names a version that is not in force.
        """


class ModelChanges(Protocol):
    """What control calls do; "" is the default model. Event loop only. For the errors see `ModelManager`."""

    def model(self, name: str) -> ModelStatus:
        """One model as it stands, with every change that was made here before.

        Raises:
            ModelNotFoundError: No such model.
        """

    async def refresh(self) -> None:
        """Looks into the model folder now, and loads and lets go what the policies want."""

    async def load(self, name: str, version: int) -> None:
        """Loads a version and keeps it whatever the policy says."""

    async def unload(self, name: str, version: int) -> None:
        """Takes a version out of service until `load` brings it back."""

    async def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Makes an alias name a version, or removes it (None)."""

    async def promote(self, name: str, version: int | None = None) -> None:
        """Makes the canary the stable version."""

    async def roll_back(self, name: str, version: int | None = None) -> None:
        """Takes back the canary, or else what answers."""


class Models(ModelChanges, Protocol):
    """The models of a service, wherever they are loaded. Event loop only."""

    @property
    def default_ready(self) -> bool:
        """Whether the default model answers requests that name no version."""

    @property
    def acquire(self) -> Acquire:
        """Hands out leases."""

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model with its versions, as they stand, by name."""
