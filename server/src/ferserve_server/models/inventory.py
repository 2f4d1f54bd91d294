"""Tracks the contents of the model repository between scans."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ferserve_server.domain.servable import ServableId, SkippedFolder
    from ferserve_server.models.source import RepositorySource

log = structlog.get_logger(__name__)


class Inventory:
    """Tracks the versions on disk as of the last scan, and folders that are not versions. Event loop only.

    Attributes:
        versions: SHA-256 of the manifest of each version. What could not be read at the last look counts as there.
        skipped: Folders that are no version.
    """

    def __init__(self, source: RepositorySource) -> None:
        self._source = source
        self.versions: Mapping[ServableId, str] = {}
        self.skipped: tuple[SkippedFolder, ...] = ()
        self._root_fault = ""

    async def scan(self) -> Mapping[ServableId, str]:
        """Scans the repository and returns its versions."""
        scan = await asyncio.to_thread(self._source.scan)
        self.versions = scan.with_unreadable_of(self.versions)
        self._log_root_fault(scan.root_fault)
        if not scan.root_unreadable:
            self._log_skipped(scan.skipped)
            self.skipped = scan.skipped
        return self.versions

    async def files_stamps(self, servable_ids: Iterable[ServableId]) -> dict[ServableId, str]:
        """Returns the digests of versions' files; see `RepositorySource.files_stamp`."""
        wanted = list(servable_ids)
        if not wanted:
            return {}
        return await asyncio.to_thread(lambda: {each: self._source.files_stamp(each) for each in wanted})

    def skipped_names(self) -> set[str]:
        """Returns the models with a skipped folder."""
        return {each.model for each in self.skipped if each.model}

    def skipped_of(self, model: str) -> tuple[SkippedFolder, ...]:
        """Returns the skipped folders of a model."""
        return tuple(each for each in self.skipped if each.model == model)

    def _log_root_fault(self, fault: str) -> None:
        if fault and fault != self._root_fault:
            log.error(
                "the model folder cannot be read; what is loaded stays", path=str(self._source.root), why=fault
            )
        self._root_fault = fault

    def _log_skipped(self, skipped: Iterable[SkippedFolder]) -> None:
        for each in skipped:
            if each not in self.skipped:
                path = self._source.root / each.model / each.folder
                log.warning("folder skipped", path=str(path), reason=each.reason, why=each.message)
