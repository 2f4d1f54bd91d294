"""Versions that score differently, with a loader for them, and ensembles of those."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.backends.fake import FakeLoader, FakeServable, fake_scores
from support.fake_models import GOLDEN_FACES, publish_fake
from support.model_factory import LABELS, manifest_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ModelDescription, ServableId

MANIFEST = "assets.extra/manifest.json"


def shifted_scores(crops: CropBatch, version: int) -> Scores:
    """What a version of `ShiftedLoader` scores: the class of `fake_scores`, moved on by the version's number."""
    return np.roll(fake_scores(crops, len(LABELS)), version, axis=1)


class ShiftedServable(FakeServable):
    """Scores by its version's number."""

    def predict(self, crops: CropBatch) -> Scores:
        super().predict(crops)
        return shifted_scores(crops, self.id.version)


class ShiftedLoader(FakeLoader):
    """Remembers what it loaded, and fails for versions in `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.servables: list[ShiftedServable] = []
        self.broken: dict[str, Exception] = {}

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> ShiftedServable:
        if str(servable_id) in self.broken:
            raise self.broken[str(servable_id)]
        servable = ShiftedServable(servable_id, description)
        self.servables.append(servable)
        return servable

    def loads_of(self, servable: str) -> list[ShiftedServable]:
        """What was made of a version, in order."""
        return [each for each in self.servables if str(each.id) == servable]


def publish_shifted(repository: Path, name: str, version: int) -> Path:
    """Publishes a version with the golden scores that `ShiftedLoader` gives it."""
    return publish_fake(repository, name, version, golden=shifted_scores(GOLDEN_FACES, version))


def publish_fake_ensemble(
    repository: Path,
    members: Sequence[str],
    name: str = "fer-ensemble",
    version: int = 1,
    *,
    changes: Mapping[str, object] | None = None,
) -> Path:
    """Publishes an ensemble in one step, with the golden scores that `ShiftedLoader` gives it.

    Args:
        repository: The model folder.
        members: What it averages, each `model/version`; those that are not there get a sum of zeros.
        name: Name of the model.
        version: Its version.
        changes: Fields of the manifest that differ.
    """
    staged = repository / f".{name}-{version}"
    (staged / "assets.extra").mkdir(parents=True)
    named = [member.rpartition("/") for member in members]
    versions = [int(number) for _, _, number in named] or [0]
    golden = np.mean([shifted_scores(GOLDEN_FACES, number) for number in versions], axis=0)
    np.savez(staged / "assets.extra" / "golden.npz", faces=GOLDEN_FACES, probabilities=golden)
    document = manifest_document(staged, name, version) | {
        "members": [
            {"name": model, "version": int(number), "manifest_sha256": _sum_of(repository / model / number)}
            for model, _, number in named
        ],
    }
    (staged / MANIFEST).write_text(json.dumps(document | dict(changes or {})))
    (repository / name).mkdir(exist_ok=True)
    return staged.rename(repository / name / str(version))


def _sum_of(folder: Path) -> str:
    path = folder / MANIFEST
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "0" * 64
