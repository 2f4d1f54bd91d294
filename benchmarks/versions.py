"""Publishes versions to swap between, a model and its damped twin, in one step as `ferserve-train export` does.

The twin does the model's work and then pulls every probability half-way to 1/7. So no probability of it is below
1/14, and an answer's scores alone identify which of the two computed it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MODEL = Path(__file__).resolve().parent.parent / "model_repo" / "fer-nano" / "4"
MODEL_NAME = "fer-nano"
MANIFEST = Path("assets.extra", "manifest.json")
GOLDEN = Path("assets.extra", "golden.npz")

TWIN_FLOOR = 1 / 14
"""Least probability that the twin can give, (0 + 1/7) / 2."""

_TELLING = 0.05
"""A face tells the two apart if the model gives one class less than this; the twin is then at least 0.02 above."""


def telling_faces(count: int) -> npt.NDArray[np.uint8]:
    """Returns golden faces whose scores identify the version, uint8 [count, 48, 48], repeated if too few."""
    with np.load(MODEL / GOLDEN) as golden:
        faces = golden["faces"][golden["probabilities"].min(axis=1) < _TELLING, :, :, 0]
    chosen: npt.NDArray[np.uint8] = np.resize(faces, (count, *faces.shape[1:]))
    return chosen


def is_twin(scores: npt.NDArray[np.floating[Any]]) -> bool:
    """Returns whether the twin gave the scores of one of `telling_faces`."""
    return float(scores.min()) > (TWIN_FLOOR + _TELLING) / 2


def make_twin(folder: Path) -> Path:
    """Writes the damped twin of the bundled model, with golden set and manifest, and returns its folder."""
    import tensorflow as tf  # noqa: PLC0415 - seconds, and only the one who makes the twin pays them

    class Damped(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
        def __init__(self) -> None:
            super().__init__()
            self.model = tf.saved_model.load(str(MODEL))

        @tf.function(input_signature=[tf.TensorSpec([None, 48, 48, 1], tf.uint8, name="faces")])  # type: ignore[untyped-decorator]
        def __call__(self, faces: Any) -> Any:  # noqa: ANN401 - as above
            damped = (self.model.signatures["serving_default"](faces=faces)["probabilities"] + 1 / 7) / 2
            return {"logits": tf.math.log(damped), "probabilities": damped}

    damped = Damped()
    tf.saved_model.save(damped, str(folder), signatures={"serving_default": damped.__call__})
    (folder / GOLDEN).parent.mkdir(exist_ok=True)
    with np.load(MODEL / GOLDEN) as golden:
        faces, probabilities = golden["faces"], golden["probabilities"]
    np.savez(folder / GOLDEN, faces=faces, probabilities=((probabilities + 1 / 7) / 2).astype(np.float32))
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = json.loads((MODEL / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"files": files}))
    return folder


def publish(folder: Path, repository: Path, version: int) -> float:
    """Publishes a copy of a version's folder under another number.

    Returns:
        When its manifest appeared, in seconds since 1970.
    """
    staged = repository / f".{MODEL_NAME}-{version}"
    shutil.copytree(folder, staged)
    manifest = json.loads((staged / MANIFEST).read_text())
    (staged / MANIFEST).write_text(json.dumps(manifest | {"version": version}))
    target = repository / MODEL_NAME / str(version)
    target.parent.mkdir(exist_ok=True)
    os.utime(staged / MANIFEST)
    appeared_s = time.time()
    staged.rename(target)
    return appeared_s


def withdraw(repository: Path, version: int) -> None:
    """Removes a version's folder."""
    shutil.rmtree(repository / MODEL_NAME / str(version))
