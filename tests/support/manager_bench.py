"""Builds a model manager with all of its collaborators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.backends.fake import FakeLoader, FakeServable
from ferserve_server.domain.servable import ModelSpec, ServableId, ServableState
from ferserve_server.models.aliases import Aliases
from ferserve_server.models.preparation import VersionPreparer
from ferserve_server.models.registry import ModelManager
from ferserve_server.models.source import RepositorySource
from ferserve_server.models.validation import ValidationLimits
from ferserve_server.models.version_policy import Latest, Policies
from support.pipeline_fakes import FakeScorer
from support.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ferserve_server.domain.ports import Loader
    from ferserve_server.domain.servable import ModelDescription, Tuning
    from ferserve_server.models.canary.traffic_split import Canaries
    from ferserve_server.models.signature import SignatureVerifier
    from ferserve_server.models.state_file import LifecycleState, Rejection
    from ferserve_server.models.version_policy import VersionPolicy

NEWEST = ModelSpec()


class CountingLoader(FakeLoader):
    """Remembers what it loaded, and fails for versions in `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[int] = []
        self.servables: dict[int, FakeServable] = {}
        self.broken: dict[int, Exception] = {}

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:
        self.loaded.append(servable_id.version)
        if servable_id.version in self.broken:
            raise self.broken[servable_id.version]
        servable = super().load(servable_id, directory, description)
        self.servables[servable_id.version] = servable
        return servable


class Shop:
    """A manager with all that it was given."""

    def __init__(
        self,
        root: Path,
        loader: Loader,
        versions_per_model: int = 1,
        *,
        policies: Mapping[str, VersionPolicy] | None = None,
        aliases: Aliases | None = None,
        canaries: Canaries | None = None,
        rejected: Mapping[ServableId, Rejection] | None = None,
        signatures: SignatureVerifier | None = None,
    ) -> None:
        self.observer = Recorder()
        self.scorers: list[FakeScorer] = []
        self.tunings: list[Tuning] = []
        self.changes = 0
        self.rejected: Mapping[ServableId, Rejection] = {}
        self.saved: list[Mapping[str, Mapping[str, int]]] = []
        source = RepositorySource(root)
        self.manager = ModelManager(
            source,
            VersionPreparer(
                source, loader, ValidationLimits((1, 4), golden_tolerance=1e-3), signatures=signatures
            ),
            self._make_scorer,
            observer=self.observer,
            default_model="fer-nano",
            policies=Policies(Latest(versions_per_model), policies or {}),
            aliases=aliases or Aliases(),
            rejected=rejected,
            canaries=canaries,
            save_state=self._save,
            on_change=self._changed,
        )

    def _make_scorer(self, servable: FakeServable, tuning: Tuning) -> FakeScorer:
        self.tunings.append(tuning)
        self.scorers.append(FakeScorer(servable))
        return self.scorers[-1]

    def _save(self, state: LifecycleState) -> None:
        self.saved.append(state.aliases)
        self.rejected = state.rejected

    def _changed(self) -> None:
        self.changes += 1

    def states(self, name: str = "") -> dict[int, ServableState]:
        return {status.id.version: status.state for status in self.manager.model(name).versions}

    def serving(self, spec: ModelSpec = NEWEST) -> int:
        with self.manager.acquire(spec) as lease:
            return lease.id.version
