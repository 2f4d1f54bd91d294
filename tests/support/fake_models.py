"""Makes versions for `FakeLoader`: manifest and golden set are real, the model file is empty."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.servable import InputSpec, ModelDescription
from support.model_factory import LABELS, write_extras

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ferserve_server.domain.face import Scores

DESCRIPTION = ModelDescription(LABELS, InputSpec("faces", 48, 48))
GOLDEN_FACES = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), np.uint8)


def publish_fake(
    repository: Path,
    name: str = "fer-nano",
    version: int = 1,
    *,
    golden: Scores | None = None,
    golden_off_by: float = 0.0,
) -> Path:
    """Publishes a version in one step, as a publisher should, and returns its folder.

    Args:
        repository: The model folder.
        name: Name of the model.
        version: Its version.
        golden: Scores of the golden faces, those of `FakeServable` if None.
        golden_off_by: By how much the golden scores differ from these.
    """
    staged = repository / f".{name}-{version}"
    staged.mkdir(parents=True)
    (staged / "saved_model.pb").write_bytes(b"not looked at by FakeLoader")
    scores = fake_scores(GOLDEN_FACES, len(LABELS)) if golden is None else golden
    write_extras(staged, name, version, GOLDEN_FACES, scores + np.float32(golden_off_by))
    (repository / name).mkdir(exist_ok=True)
    return staged.rename(repository / name / str(version))


def rewrite_manifest(version: Path, changes: Mapping[str, object]) -> None:
    """Changes fields of a version's manifest and gives it a time of its own."""
    path = version / "assets.extra" / "manifest.json"
    document = json.loads(path.read_text())
    changed_at_ns = path.stat().st_mtime_ns
    path.write_text(json.dumps(document | changes))
    touch_later(path, changed_at_ns)


def touch_later(path: Path, changed_at_ns: int) -> None:
    """Sets a file's time one second after another, whatever the file system's clock can tell apart."""
    os.utime(path, ns=(changed_at_ns + 10**9, changed_at_ns + 10**9))
