"""Makes a servable out of a folder, or tells why not: verified, loaded, warmed and tried."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import GateFigures
from ferserve_server.repository.comparison import compare
from ferserve_server.repository.gate import check_golden, check_labels, read_golden, score_all, warm
from ferserve_server.repository.manifest import read_manifest, verify_files

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.ports import Loader, Servable
    from ferserve_server.domain.servable import ServableId
    from ferserve_server.repository.source import RepositorySource


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What a version must show.

    Attributes:
        bucket_sizes: Batch sizes it is warmed at, rising.
        golden_tolerance: Largest difference from its golden scores, as a probability.
        latency_factor: How many times as long as the version in force a batch may take; 0: any.
    """

    bucket_sizes: tuple[int, ...]
    golden_tolerance: float
    latency_factor: float = 0.0


class VersionPreparer:
    """Loads and tries versions on a thread. Event loop only.

    It takes one core from live traffic, not more: one thread, one version and one batch at a time. Within a batch
    the engine uses as many threads as its own settings give it, 1 by default.
    """

    def __init__(self, source: RepositorySource, loader: Loader, limits: GateLimits) -> None:
        self.limits = limits
        self._source = source
        self._loader = loader

    async def prepare(self, servable_id: ServableId, in_force: Servable | None) -> tuple[Servable, GateFigures]:
        """Verifies, loads, warms and tries a version. Takes seconds; await one before the next.

        Args:
            servable_id: The version.
            in_force: The version that answers requests now, leased for as long as this takes; None if none does.

        Raises:
            ModelRejectedError: It may not be served.
            Exception: Whatever the engine raised.
        """
        return await asyncio.to_thread(self._prepare, servable_id, in_force)

    def _prepare(self, servable_id: ServableId, in_force: Servable | None) -> tuple[Servable, GateFigures]:
        directory = self._source.directory(servable_id)
        manifest = read_manifest(directory)
        if (manifest.name, manifest.version) != (servable_id.name, servable_id.version):
            raise ModelRejectedError(
                "MANIFEST_MISMATCH", f"The manifest is that of {manifest.name}/{manifest.version}."
            )
        check_labels(manifest.description.labels, in_force.description.labels if in_force else None)
        verify_files(directory, manifest)
        servable = self._loader.load(servable_id, directory, manifest.description)
        try:
            return servable, self._try(servable, directory, in_force)
        except BaseException:
            servable.close()
            raise

    def _try(self, servable: Servable, directory: Path, in_force: Servable | None) -> GateFigures:
        limits = self.limits
        warm(servable, limits.bucket_sizes)
        golden = read_golden(directory, servable.description.input)
        scores = score_all(servable, golden.faces, limits.bucket_sizes)
        difference = check_golden(scores, golden, limits.golden_tolerance)
        if in_force is None:
            return GateFigures(difference)
        factor = limits.latency_factor
        return GateFigures(
            difference,
            compare(servable, in_force, golden.faces, scores, limits.bucket_sizes, latency_factor=factor),
        )
