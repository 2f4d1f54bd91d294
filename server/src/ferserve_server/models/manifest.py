"""A version's manifest: what it is, and the sums that its files must have."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import InputSpec, ModelDescription, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MANIFEST_PATH: Final = "assets.extra/manifest.json"
GOLDEN_PATH: Final = "assets.extra/golden.npz"
SAVED_MODEL_PATH: Final = "saved_model.pb"
ONNX_PATH: Final = "assets.extra/model.onnx"
_FORMAT_VERSION: Final = 1
_DEFAULT_UNCERTAIN: Final = 0.5
_NEVER: Final = 1.0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `assets.extra/manifest.json` says: `file_sums` maps each file's path to its SHA-256, in hex."""

    name: str
    version: int
    description: ModelDescription
    file_sums: Mapping[str, str]


def read_manifest(directory: Path) -> Manifest:
    """Reads the manifest of the version in `directory`.

    Raises:
        ModelRejectedError: It is missing (MANIFEST_MISSING) or does not say what it must (MANIFEST_INVALID).
    """
    try:
        content = (directory / MANIFEST_PATH).read_bytes()
    except FileNotFoundError:
        raise ModelRejectedError("MANIFEST_MISSING", f"There is no {MANIFEST_PATH}.") from None
    except OSError as error:
        raise ModelRejectedError("MANIFEST_INVALID", f"{MANIFEST_PATH} cannot be used: {error!r}.") from error
    return decode_manifest(content)


def decode_manifest(content: bytes) -> Manifest:
    """Turns a manifest's bytes into a value.

    Raises:
        ModelRejectedError: MANIFEST_INVALID.
    """
    try:
        return parse_manifest(json.loads(content.decode("utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ModelRejectedError("MANIFEST_INVALID", f"{MANIFEST_PATH} cannot be used: {error!r}.") from error


def parse_manifest(document: Mapping[str, Any]) -> Manifest:
    """Turns a manifest's document into a value.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OverflowError: It does not say what it must.
    """
    if document["format_version"] != _FORMAT_VERSION:
        raise ValueError(f"format_version is {document['format_version']}, this server reads {_FORMAT_VERSION}")
    taken = document["input"]
    if taken["dtype"] != "uint8" or taken["channels"] != 1:
        raise ValueError("input must be uint8 with 1 channel")
    if int(taken["height"]) < 1 or int(taken["width"]) < 1:
        raise ValueError("input must be 1 pixel high and wide, or more")
    labels = tuple(str(label) for label in document["labels"])
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise ValueError("labels must be two or more different names")
    file_sums = {str(path): str(digest) for path, digest in document["files"].items()}
    if file_sums.keys().isdisjoint({SAVED_MODEL_PATH, ONNX_PATH}):
        raise ValueError(f"files must name {SAVED_MODEL_PATH} or {ONNX_PATH}")
    uncertain_threshold, not_a_face_threshold = _parse_decisions(document.get("decisions", {}))
    # Without a stated threshold the output is not used: its scale is not known.
    unused = not_a_face_threshold is None
    not_a_face_output = "" if unused else str(document["outputs"].get("not_a_face", ""))
    precision = Precision(document.get("precision", Precision.FLOAT32.value))
    if precision is Precision.BFLOAT16:
        raise ValueError("precision must be float32 or int8")
    return Manifest(
        name=str(document["name"]),
        version=int(document["version"]),
        description=ModelDescription(
            labels=labels,
            input=InputSpec(str(taken["name"]), int(taken["height"]), int(taken["width"])),
            output=str(document["outputs"]["probabilities"]),
            mac_count=int(document.get("mac_count", 0)),
            parameter_count=int(document.get("parameter_count", 0)),
            metrics={str(name): float(value) for name, value in document.get("metrics", {}).items()},
            precision=precision,
            uncertain_threshold=_DEFAULT_UNCERTAIN if uncertain_threshold is None else uncertain_threshold,
            not_a_face_output=not_a_face_output,
            not_a_face_threshold=not_a_face_threshold or _NEVER,
        ),
        file_sums=file_sums,
    )


def _parse_decisions(document: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Reads the thresholds for uncertain faces and for what is no face; None where none is stated.

    Raises:
        ValueError, TypeError: A threshold is no number of its range.
    """
    uncertain, not_a_face = document.get("uncertain_threshold"), document.get("not_a_face_threshold")
    if uncertain is not None and not 0.0 <= float(uncertain) <= 1.0:
        raise ValueError(f"decisions.uncertain_threshold is {uncertain}, not 0 to 1")
    if not_a_face is not None and not 0.0 < float(not_a_face) <= 1.0:
        raise ValueError(f"decisions.not_a_face_threshold is {not_a_face}, not above 0 to 1")
    return None if uncertain is None else float(uncertain), None if not_a_face is None else float(not_a_face)


def verify_files(directory: Path, manifest: Manifest) -> None:
    """Compares every file that the manifest names with its sum, and refuses files that it does not name.

    Raises:
        ModelRejectedError: FILE_MISSING, FILE_CHANGED, FILE_UNLISTED or FILE_OUTSIDE.
    """
    root = directory.resolve()
    for name, expected in manifest.file_sums.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise ModelRejectedError("FILE_OUTSIDE", f"The manifest names {name!r}, which is outside.", file=name)
        if not path.is_file():
            raise ModelRejectedError("FILE_MISSING", f"{name} is missing.", file=name)
        with path.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != expected:
            raise ModelRejectedError("FILE_CHANGED", f"{name} does not have the manifest's SHA-256.", file=name)
    present = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    for name in sorted(present - set(manifest.file_sums) - {MANIFEST_PATH}):
        raise ModelRejectedError("FILE_UNLISTED", f"{name} is not in the manifest.", file=name)
