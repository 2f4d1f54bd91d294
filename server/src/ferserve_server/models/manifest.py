"""Reads and verifies a version's manifest: its description and the checksums of its files."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import InputSpec, ModelDescription, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

MANIFEST_PATH: Final = "assets.extra/manifest.json"
GOLDEN_PATH: Final = "assets.extra/golden.npz"
SIGNATURE_PATH: Final = "model.sig"
SAVED_MODEL_PATH: Final = "saved_model.pb"
ONNX_PATH: Final = "assets.extra/model.onnx"
_FORMAT_VERSION: Final = 1
_DEFAULT_UNCERTAIN: Final = 0.5
_NEVER: Final = 1.0

MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of a manifest, in bytes, because 30,000 files need no more."""

_MAX_LABELS: Final = 1000
_MAX_SIDE_PIXELS: Final = 4096
"""Maximum number of classes, and of pixels of a side, because with the largest batch they size shared memory."""

_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """Represents `assets.extra/manifest.json`.

    Attributes:
        name: Name of the model.
        version: Its version.
        description: What the engine and callers must know of it.
        file_sums: SHA-256 of each file, in hex, by its path.
        content_sum: SHA-256 of the manifest itself, in hex; "" if it was not read from bytes.
    """

    name: str
    version: int
    description: ModelDescription
    file_sums: Mapping[str, str]
    content_sum: str = ""


def read_manifest(directory: Path) -> Manifest:
    """Reads the manifest of the version in `directory`.

    Raises:
        ModelRejectedError: It is missing (MANIFEST_MISSING) or malformed (MANIFEST_INVALID).
        OSError: It cannot be read now.
    """
    try:
        with (directory / MANIFEST_PATH).open("rb") as stream:
            content = stream.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        raise ModelRejectedError("MANIFEST_MISSING", f"There is no {MANIFEST_PATH}.") from None
    except (NotADirectoryError, IsADirectoryError) as error:
        raise ModelRejectedError("MANIFEST_INVALID", f"{MANIFEST_PATH} cannot be used: {error!r}.") from error
    return decode_manifest(content)


def decode_manifest(content: bytes) -> Manifest:
    """Decodes a manifest's bytes.

    Raises:
        ModelRejectedError: MANIFEST_INVALID.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise ModelRejectedError(
            "MANIFEST_INVALID", f"{MANIFEST_PATH} is too large: {MAX_MANIFEST_BYTES >> 20} MiB are the most."
        )
    try:
        manifest = parse_manifest(json.loads(content.decode("utf-8")))
    except RecursionError:
        raise ModelRejectedError("MANIFEST_INVALID", f"{MANIFEST_PATH} is nested too deeply.") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ModelRejectedError("MANIFEST_INVALID", f"{MANIFEST_PATH} cannot be used: {error!r}.") from error
    return replace(manifest, content_sum=hashlib.sha256(content).hexdigest())


def parse_manifest(document: Mapping[str, Any]) -> Manifest:
    """Parses a manifest's JSON document.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OverflowError: It is malformed.
    """
    if document["format_version"] != _FORMAT_VERSION:
        raise ValueError(f"format_version is {document['format_version']}, this server reads {_FORMAT_VERSION}")
    taken = document["input"]
    if taken["dtype"] != "uint8" or taken["channels"] != 1:
        raise ValueError("input must be uint8 with 1 channel")
    if int(taken["height"]) < 1 or int(taken["width"]) < 1:
        raise ValueError("input must be 1 pixel high and wide, or more")
    if max(int(taken["height"]), int(taken["width"])) > _MAX_SIDE_PIXELS:
        raise ValueError(f"input must be {_MAX_SIDE_PIXELS} pixels high and wide at most")
    labels = tuple(str(label) for label in document["labels"])
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise ValueError("labels must be two or more different names")
    if len(labels) > _MAX_LABELS:
        raise ValueError(f"there must be {_MAX_LABELS} labels at most")
    file_sums = {str(path): str(digest) for path, digest in document["files"].items()}
    if file_sums.keys().isdisjoint({SAVED_MODEL_PATH, ONNX_PATH}):
        raise ValueError(f"files must name {SAVED_MODEL_PATH} or {ONNX_PATH}")
    uncertain_threshold, not_a_face_threshold = _parse_decisions(document.get("decisions", {}))
    # Without a stated threshold the output is not used: its scale is unknown.
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
    """Parses the thresholds for uncertain faces and for non-faces; None where none is stated.

    Raises:
        ValueError, TypeError: A threshold is no number of its range.
    """
    uncertain, not_a_face = document.get("uncertain_threshold"), document.get("not_a_face_threshold")
    if uncertain is not None and not 0.0 <= float(uncertain) <= 1.0:
        raise ValueError(f"decisions.uncertain_threshold is {uncertain}, not 0 to 1")
    if not_a_face is not None and not 0.0 < float(not_a_face) <= 1.0:
        raise ValueError(f"decisions.not_a_face_threshold is {not_a_face}, not above 0 to 1")
    return None if uncertain is None else float(uncertain), None if not_a_face is None else float(not_a_face)


def verify_files(directory: Path, manifest: Manifest, check: Callable[[], None] = lambda: None) -> None:
    """Compares every file that the manifest names with its checksum, and rejects unlisted files.

    Files and folders may be links, such as into a cache's store: the checksum proves the content. A link that the
    manifest does not name is rejected like any other file.

    Args:
        directory: Folder of the version.
        manifest: Its manifest.
        check: Called for every MiB that was read; an exception from it ends the reading.

    Raises:
        ModelRejectedError: FILE_MISSING, FILE_CHANGED, FILE_UNLISTED or FILE_OUTSIDE.
        OSError: A file cannot be read now.
    """
    for name, expected in manifest.file_sums.items():
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            raise ModelRejectedError("FILE_OUTSIDE", f"The manifest names {name!r}, which is outside.", file=name)
        path = directory / name
        if not path.is_file():
            raise ModelRejectedError("FILE_MISSING", f"{name} is missing.", file=name)
        if _file_sum(path, check) != expected:
            raise ModelRejectedError("FILE_CHANGED", f"{name} does not have the manifest's SHA-256.", file=name)
    paths = [PurePosixPath(name) for name in (*manifest.file_sums, MANIFEST_PATH, SIGNATURE_PATH)]
    listed = {str(path) for path in paths}
    for name in _present_files(directory, {str(folder) for path in paths for folder in path.parents}):
        check()
        if name not in listed:
            raise ModelRejectedError("FILE_UNLISTED", f"{name} is not in the manifest.", file=name)


def _file_sum(path: Path, check: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            check()
    return digest.hexdigest()


def _present_files(directory: Path, listed_folders: Collection[str]) -> Iterator[str]:
    """Yields the path of every file, of every dangling link, and of every linked folder that is not listed.

    Listed folders that are links are followed, each once.
    """
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(directory, followlinks=True):
        where = Path(folder).stat()
        if (where.st_dev, where.st_ino) in seen:
            folders.clear()  # a link to a folder above
            continue
        seen.add((where.st_dev, where.st_ino))
        for name in folders.copy():
            path = Path(folder) / name
            relative = path.relative_to(directory).as_posix()
            if path.is_symlink() and relative not in listed_folders:
                folders.remove(name)
                yield relative
        for name in sorted(files):
            yield (Path(folder) / name).relative_to(directory).as_posix()
