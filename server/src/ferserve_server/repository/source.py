"""What lies in the repository: `<root>/<model>/<version>/`, TensorFlow Serving's layout."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.servable import ServableId
from ferserve_server.repository.manifest import MANIFEST_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""What a model may be called. No leading dot: hidden folders are where versions are being written."""

VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")
"""A version: a number from 1 that fits 64 bits."""


class RepositorySource:
    """Tells which versions there are. Stateless; any thread."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def scan(self) -> Mapping[ServableId, float]:
        """Every version with a manifest, and when its manifest was last changed, in seconds since 1970.

        A version without a manifest is one that is still being written, and does not count. A repository that is
        not there has no versions.
        """
        found: dict[ServableId, float] = {}
        for model in self._folders(self.root, MODEL_NAME):
            for version in self._folders(model, VERSION):
                try:
                    changed_at = (version / MANIFEST_PATH).stat().st_mtime
                except OSError:
                    continue
                found[ServableId(model.name, int(version.name))] = changed_at
        return found

    def directory(self, servable_id: ServableId) -> Path:
        """Where a version lies."""
        return self.root / servable_id.name / str(servable_id.version)

    @staticmethod
    def _folders(parent: Path, name: re.Pattern[str]) -> list[Path]:
        try:
            return sorted(path for path in parent.iterdir() if name.fullmatch(path.name) and path.is_dir())
        except OSError:
            return []
