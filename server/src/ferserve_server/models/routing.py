"""Routes requests to active versions."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ferserve_server.domain.errors import (
    AliasNotFoundError,
    FerserveError,
    ModelNotFoundError,
    ModelNotReadyError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from ferserve_server.domain.names import CANARY, STABLE
from ferserve_server.models.aliases import unpinned_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.ports import InferenceObserver
    from ferserve_server.domain.servable import ModelSpec, ServableId
    from ferserve_server.models.aliases import Aliases
    from ferserve_server.models.canary.traffic_split import TrafficSplit
    from ferserve_server.models.leases import Lease, LiveVersion


class Routes:
    """Routes requests to active versions, directly or by alias. Event loop only.

    Args of the constructor:
        default_model: Model of requests that name none.
        aliases: Those active at first.
        observer: Notified of every change.
        is_known: True if there is a model of that name, with or without an active version.
        on_change: Called after every change.
        traffic_split: Returns the traffic split of a model's requests without a version, given the model, the
            version that serves them and the version behind the alias `canary`, each None if it is not ready.
    """

    def __init__(
        self,
        default_model: str,
        aliases: Aliases,
        observer: InferenceObserver,
        is_known: Callable[[str], bool],
        *,
        on_change: Callable[[], None] = lambda: None,
        traffic_split: Callable[[str, LiveVersion | None, LiveVersion | None], TrafficSplit | None] = (
            lambda _model, serving, _canary: serving
        ),
    ) -> None:
        self.aliases = aliases
        self._default_model = default_model
        self._observer = observer
        self._is_known = is_known
        self._on_change = on_change
        self._traffic_split = traffic_split
        self._live: dict[str, dict[int, LiveVersion]] = {}
        self._serving: dict[str, LiveVersion] = {}
        # Versions of unpinned requests by model: looked up at every request, so computed at every change instead.
        self._unpinned: dict[str, TrafficSplit] = {}

    def acquire(self, spec: ModelSpec, *, once: bool = False) -> Lease:
        """Takes a lease on the version that `spec` resolves to. Use it as a context manager.

        See `domain.models.Acquire`; `once` makes no difference here.

        Raises:
            ModelNotFoundError: No such model.
            VersionNotFoundError: The model has no such active version.
            AliasNotFoundError: The model has no such alias.
            ModelNotReadyError: The model has no active version yet.
            VersionNotReadyError: The alias names a version that is not active.
        """
        del once
        name = spec.name or self._default_model
        if spec.version is None and not spec.alias:
            traffic_split = self._unpinned.get(name)
            if traffic_split is None:
                raise self._absence(name)
            return traffic_split.lease()
        return self._pinned(name, spec).lease()

    def serving(self, model: str) -> LiveVersion | None:
        """Returns the version for unpinned requests of a model, apart from a canary's share."""
        return self._serving.get(model)

    def ready(self) -> list[ServableId]:
        """Returns every active version."""
        return [version.id for versions in self._live.values() for version in versions.values()]

    def ready_versions(self, model: str) -> list[int]:
        """Returns the active versions of a model."""
        return list(self._live.get(model, ()))

    def add(self, version: LiveVersion) -> None:
        """Activates a version."""
        self._live.setdefault(version.id.name, {})[version.id.version] = version
        self._changed(version.id.name)

    def remove(self, servable_id: ServableId) -> LiveVersion:
        """Deactivates a version: no further lease on it is taken."""
        version = self._live[servable_id.name].pop(servable_id.version)
        self._changed(servable_id.name)
        return version

    def set_alias(self, model: str, alias: str, version: int | None) -> None:
        """Points an alias to a version, or removes it (None)."""
        self.aliases = self.aliases.changed(model, alias, version)
        self._changed(model)

    def _changed(self, model: str) -> None:
        versions = self._live.get(model, {})
        aliases = self.aliases.of(model)
        number = unpinned_version(versions, aliases.get(STABLE))
        serving = None if number is None else versions[number]
        traffic_split = self._traffic_split(model, serving, versions.get(aliases.get(CANARY, 0)))
        if serving is None or traffic_split is None:
            self._serving.pop(model, None)
            self._unpinned.pop(model, None)
        else:
            self._serving[model] = serving
            self._unpinned[model] = traffic_split
        with contextlib.suppress(Exception):
            self._observer.routed(model, aliases, number)
        self._on_change()

    def _pinned(self, name: str, spec: ModelSpec) -> LiveVersion:
        number = spec.version
        if number is None:
            aliases = self.aliases.of(name)
            number = aliases.get(spec.alias)
            if number is None:
                raise (
                    AliasNotFoundError(name, spec.alias, aliases) if self._is_known(name) else self._absence(name)
                )
        versions = self._live.get(name)
        version = versions.get(number) if versions else None
        if version is not None:
            return version
        if spec.alias:
            raise VersionNotReadyError(name, number, spec.alias)
        raise VersionNotFoundError(name, number) if versions else self._absence(name)

    def _absence(self, name: str) -> FerserveError:
        stable = self.aliases.of(name).get(STABLE)
        if self._live.get(name) and stable is not None:
            return VersionNotReadyError(name, stable, STABLE)
        # Before the first scan no models are known; the default model is the one to wait for.
        known = self._is_known(name) or name == self._default_model
        return ModelNotReadyError(name) if known else ModelNotFoundError(name)
