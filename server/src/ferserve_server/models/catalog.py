"""Resolves model specs to versions from a snapshot of the models, without asking the process that runs them. Pure.

The primary process or upstream server decides: it resolves every request again, knows canaries, and holds the
leases. This module answers only what a snapshot can: the input that a model takes, its classes, and that a model
does not exist. The rules are those of `models.routing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferserve_server.domain.errors import (
    AliasNotFoundError,
    FerserveError,
    ModelNotFoundError,
    ModelNotReadyError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from ferserve_server.domain.names import STABLE
from ferserve_server.domain.servable import ModelStatus, ServableState

if TYPE_CHECKING:
    from ferserve_server.domain.servable import ModelDescription, ModelSpec, ServableId


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Represents the models of a service at one moment.

    Attributes:
        default_model: Model of requests that name none.
        default_ready: True if it answers, with a healthy engine.
        models: Every model, by name.
    """

    default_model: str
    default_ready: bool
    models: tuple[ModelStatus, ...] = ()


class CatalogSnapshot:
    """Looks up the models of a service by model spec. Immutable."""

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self._models = {model.name: model for model in state.models}
        self._described = {
            version.id: version.description
            for model in state.models
            for version in model.versions
            if version.description is not None
        }
        self._ready = {
            model.name: {
                version.id.version: version.id
                for version in model.versions
                if version.state is ServableState.READY and version.description is not None
            }
            for model in state.models
        }

    def model(self, name: str) -> ModelStatus:
        """Returns one model; "" is the default one.

        Raises:
            ModelNotFoundError: No such model.
        """
        name = name or self.state.default_model
        if name not in self._models:
            raise ModelNotFoundError(name)
        return self._models[name]

    def description(self, servable: ServableId) -> ModelDescription | None:
        """Returns the description in a version's manifest, or None if it was not reported."""
        return self._described.get(servable)

    def resolve(self, spec: ModelSpec) -> tuple[ServableId, ModelDescription]:
        """Resolves `spec` to a version, ignoring a canary's share of the requests.

        Raises:
            FerserveError: There is none; see `domain.models.Acquire`.
        """
        name = spec.name or self.state.default_model
        model = self._models.get(name)
        ready = self._ready.get(name, {})
        number = self._number(name, spec, model)
        servable = ready.get(number)
        if servable is not None:
            return servable, self._described[servable]
        if spec.alias:
            raise VersionNotReadyError(name, number, spec.alias)
        raise VersionNotFoundError(name, number) if ready and spec.version else self._absence(name)

    def resolves_to(self, spec: ModelSpec, servable: ServableId) -> bool:
        """Returns whether `spec` resolves to that version, ignoring a canary's share of the requests."""
        try:
            return self.resolve(spec)[0] == servable
        except FerserveError:
            return False

    def _number(self, name: str, spec: ModelSpec, model: ModelStatus | None) -> int:
        """Returns the number of the requested version; 0: none is named and none serves."""
        if spec.version is not None:
            return spec.version
        if model is None:
            raise self._absence(name)
        if not spec.alias:
            return model.serving_version or 0
        if spec.alias not in model.aliases:
            raise AliasNotFoundError(name, spec.alias, model.aliases)
        return model.aliases[spec.alias]

    def _absence(self, name: str) -> FerserveError:
        model = self._models.get(name)
        stable = model.aliases.get(STABLE) if model else None
        if self._ready.get(name) and stable is not None:
            return VersionNotReadyError(name, stable, STABLE)
        known = (model is not None and bool(model.versions)) or name == self.state.default_model
        return ModelNotReadyError(name) if known else ModelNotFoundError(name)
