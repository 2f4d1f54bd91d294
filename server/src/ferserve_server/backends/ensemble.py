"""Runs ensembles: the mean of what several versions score, in the place of one model."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import structlog

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Precision
from ferserve_server.models.members import member_invalid, verify_members

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.ports import Loader, Servable
    from ferserve_server.domain.servable import ModelDescription, ServableId
    from ferserve_server.models.members import VerifiedMember
    from ferserve_server.models.source import RepositorySource

log = structlog.get_logger(__name__)


class EnsembleServable:
    """Implements `domain.ports.Servable` on members of its own; see `Servable` for the methods.

    A batch goes through the members one after the other on the thread that brought it, so a member never runs on
    more threads at once than the ensemble does. `executor_count` is the smallest of the members' for that reason:
    a member may not be called from more threads than its own (see `SessionServable`).
    """

    def __init__(
        self, servable_id: ServableId, description: ModelDescription, members: Sequence[Servable]
    ) -> None:
        """Takes the members over and closes them with itself.

        Args:
            servable_id: Which version it is.
            description: What its manifest says.
            members: One or more, loaded for it alone.
        """
        self.id = servable_id
        self.description = description
        self.executor_count = min(member.executor_count for member in members)
        self._members = tuple(members)
        coarse = (member.precision for member in members if member.precision is Precision.INT8)
        self.precision = next(coarse, members[0].precision)

    def predict(self, crops: CropBatch) -> Scores:
        """Scores a batch: the mean of the members' calibrated probabilities, each member weighing the same."""
        scores = np.stack([member.predict(crops) for member in self._members])
        # In float64: the order of the members then does not show in the float32 result.
        mean: Scores = scores.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    def with_precision(self, precision: Precision) -> EnsembleServable:
        """Makes the same ensemble with every member in another precision."""
        with contextlib.ExitStack() as made:
            members = []
            for member in self._members:
                members.append(member.with_precision(precision))
                made.callback(members[-1].close)
            made.pop_all()
        return EnsembleServable(self.id, self.description, members)

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Warms all members, one after the other."""
        for member in self._members:
            member.warm_executors(bucket_sizes, thread_count)

    def reserve_session(self, bucket_sizes: Sequence[int]) -> None:
        """Adds one to each member."""
        for member in self._members:
            member.reserve_session(bucket_sizes)

    def close(self) -> None:
        """Gives all members' memory back, also those after one that fails to; that failure is raised."""
        with contextlib.ExitStack() as stack:
            for member in self._members:
                stack.callback(member.close)


class EnsembleLoader:
    """Loads ensembles member by member, and leaves other versions to the engine's own loader.

    Args of the constructor:
        engine: Loads members, and versions that are no ensembles.
        source: The repository that members lie in.

    Thread-safety: that of `engine`.
    """

    def __init__(self, engine: Loader, source: RepositorySource) -> None:
        self._engine = engine
        self._source = source

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> Servable:
        """Loads a version; see `domain.ports.Loader`.

        Raises:
            ModelRejectedError: A member may not be served, for one of the reasons of
                `repository.members.verify_members`; or the engine's own refusals.
        """
        if not description.members:
            return self._engine.load(servable_id, directory, description)
        # All are verified before the first is loaded: reading files is quicker, and does not run their code.
        verified = verify_members(self._source, description)
        with contextlib.ExitStack() as loaded:
            members = []
            for member in verified:
                members.append(self._load_member(member))
                loaded.callback(members[-1].close)
            ensemble = EnsembleServable(servable_id, description, members)
            loaded.pop_all()
        log.info("ensemble loaded", servable=str(servable_id), members=[str(member.id) for member in verified])
        return ensemble

    def _load_member(self, member: VerifiedMember) -> Servable:
        try:
            return self._engine.load(member.id, member.directory, member.description)
        except ModelRejectedError as error:
            raise member_invalid(member.id, error.reason, error.message) from error
        except Exception as error:
            text = "The engine could not load it. The server's log tells more."
            raise member_invalid(member.id, "LOAD_FAILED", text) from error
