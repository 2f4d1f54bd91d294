"""The ONNX file beside a SavedModel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.repository.manifest import ONNX_PATH

if TYPE_CHECKING:
    from pathlib import Path


def read_onnx(directory: Path, backend: str) -> bytes:
    """Reads the ONNX file of the version in `directory`.

    Runtimes get bytes, not a path: these were compared with the manifest's sum, and a file that is read from a
    path may name others for its weights.

    Args:
        directory: Of the version.
        backend: What would run it, for the text.

    Raises:
        ModelRejectedError: ONNX_MISSING.
    """
    try:
        return (directory / ONNX_PATH).read_bytes()
    except FileNotFoundError:
        raise ModelRejectedError(
            "ONNX_MISSING",
            f"There is no {ONNX_PATH}, which --backend {backend} runs. Publish the version with one "
            "(ferserve-train export --onnx float32), or use --backend tensorflow.",
            backend=backend,
        ) from None
