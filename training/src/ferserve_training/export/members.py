"""Versions that an ensemble may be made of: whole, alike, and no ensembles themselves."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ferserve_training.errors import TrainingError
from ferserve_training.export.manifest import MANIFEST_PATH, digest_files

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""What the server takes for a model's name; hidden folders are where versions are being written."""

_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Member:
    """A version whose files are those of its manifest.

    Attributes:
        name: Of its model.
        version: Its number.
        folder: Where it lies.
        manifest_sha256: Digest of its manifest's bytes, in hex.
        labels: Names of the classes, in the order of the scores.
        input: What it takes, as its manifest says.
        mac_count: Multiply-accumulates a face, 0 if not known.
        parameter_count: Weights and biases, 0 if not known.
    """

    name: str
    version: int
    folder: Path
    manifest_sha256: str
    labels: tuple[str, ...]
    input: dict[str, Any]
    mac_count: int
    parameter_count: int

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def read_members(names: Sequence[str], model_repo: Path) -> tuple[Member, ...]:
    """Read the versions that an ensemble is to average.

    Args:
        names: Two or more different ones, each `MODEL/VERSION`.
        model_repo: Root of the model repository that they lie in.

    Raises:
        TrainingError: There are too few, one is named twice, is not there, was damaged, is an ensemble itself, or
            differs from the first in labels or input; the text names it.
    """
    if len(names) < 2:
        raise TrainingError("an ensemble averages two or more versions: name them as MODEL/VERSION MODEL/VERSION")
    for position, name in enumerate(names):
        if name in names[:position]:
            raise TrainingError(f"{name}: named twice; each member weighs the same, so name it once")
    members = tuple(_read_member(name, model_repo) for name in names)
    for member in members[1:]:
        if (member.labels, member.input) != (members[0].labels, members[0].input):
            raise TrainingError(
                f"{member}: its labels or input are not those of {members[0]}; name versions alike"
            )
    return members


def _read_member(name: str, model_repo: Path) -> Member:
    model, _, version = name.partition("/")
    if MODEL_NAME.fullmatch(model) is None or _VERSION.fullmatch(version) is None:
        raise TrainingError(f"{name}: not a version; name it as MODEL/VERSION, such as fer-nano/1")
    folder = model_repo / model / version
    try:
        content = (folder / MANIFEST_PATH).read_bytes()
    except OSError as error:
        raise TrainingError(f"{folder / MANIFEST_PATH}: cannot be read ({error.strerror})") from error
    try:
        manifest = json.loads(content)
        if "members" in manifest:
            raise TrainingError(f"{name}: an ensemble itself; name its members instead")
        named, files = f"{manifest['name']}/{manifest['version']}", dict(manifest["files"])
        member = Member(
            model,
            int(version),
            folder,
            hashlib.sha256(content).hexdigest(),
            tuple(str(label) for label in manifest["labels"]),
            dict(manifest["input"]),
            int(manifest.get("mac_count", 0)),
            int(manifest.get("parameter_count", 0)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{folder / MANIFEST_PATH}: not a version's manifest ({error!r})") from error
    if named != name:
        raise TrainingError(f"{folder / MANIFEST_PATH}: is the manifest of {named}; restore the version")
    if digest_files(folder) != files:
        raise TrainingError(f"{folder}: its files are not those of its manifest; restore the version")
    return member
