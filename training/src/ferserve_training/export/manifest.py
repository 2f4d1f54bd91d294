"""Writes `assets.extra/manifest.json`: the facts about a version for the server and its clients."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ferserve_training.errors import RunError
from ferserve_training.evaluation.robustness import Robustness
from ferserve_training.evaluation.scores import Evaluation
from ferserve_training.export.onnx_weights import OnnxWeights
from ferserve_training.labels import FACE_SIZE, LABELS
from ferserve_training.nets.chain import ChainSpec
from ferserve_training.nets.spec import NetSpec

MANIFEST_PATH: Final = "assets.extra/manifest.json"
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""Model names that the server accepts. Hidden folders are excluded: versions are written there first."""

_FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Provenance:
    """Records how a version came about.

    Attributes:
        recipe: Its name.
        seed: Of the run.
        epochs: Made.
        minutes: Wall clock of all epochs.
        data_sha256: Digest of the data set.
        train_count: Faces learnt from.
        evaluation: How the figures were measured, in words.
        framework: What computed it.
        smoke: Whether it is of a run that only proves the machinery.
    """

    recipe: str
    seed: int
    epochs: int
    minutes: float
    data_sha256: str
    train_count: int
    evaluation: str
    framework: str
    smoke: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Describes a version that was merged into another.

    Attributes:
        name: Of its model.
        version: Its number.
        manifest_sha256: Digest of its manifest, which names the digests of its files.
    """

    name: str
    version: int
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class MergedNet:
    """Versions whose calibrated probabilities are averaged.

    Attributes:
        sources: At least two.
        mac_count: Of all together.
        parameter_count: Likewise.
    """

    sources: tuple[Source, ...]
    mac_count: int
    parameter_count: int

    @property
    def preprocessing(self) -> str:
        """Preprocessing inside the graph, as a sentence."""
        names = ", ".join(f"{source.name}/{source.version}" for source in self.sources)
        return (
            f"the mean of the calibrated probabilities of {names}, each with its own preprocessing, in one graph"
        )


@dataclass(frozen=True, slots=True)
class QuantizedNet:
    """Describes a version in int8.

    Attributes:
        source: What it was made of.
        accuracy_before: Of the source on the same faces, 0 to 1.
        mac_count: Of the source.
        parameter_count: Likewise.
    """

    source: Source
    accuracy_before: float
    mac_count: int
    parameter_count: int

    @property
    def preprocessing(self) -> str:
        """Preprocessing inside the graph, as a sentence."""
        return f"what {self.source.name}/{self.source.version} does, with its convolutions in int8"


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """Describes a version's ONNX file.

    Attributes:
        weights: What they are stored as.
        largest_difference: From the SavedModel in a probability of the golden faces.
    """

    weights: OnnxWeights
    largest_difference: float


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """All that a version's manifest and model card say, but for the digests of its files.

    Attributes:
        name: Of the model.
        version: Its number, from 1.
        created: When it was exported, UTC.
        net: For the counts.
        evaluation: Figures and temperature.
        provenance: How it came about.
        outputs: What the signature answers with, by name.
        onnx: Of its ONNX file, if it has one.
        robustness: Figures on degraded faces and non-faces, if they were measured.
        parent: The same of the version before, if they are to be shown beside them.
    """

    name: str
    version: int
    created: datetime
    net: NetSpec | ChainSpec | MergedNet | QuantizedNet
    evaluation: Evaluation
    provenance: Provenance
    outputs: tuple[str, ...] = ("probabilities", "logits")
    onnx: OnnxFacts | None = None
    robustness: Robustness | None = None
    parent: Robustness | None = None


def manifest_of(facts: VersionFacts, files: dict[str, str]) -> dict[str, Any]:
    """Put a manifest together, ready for JSON.

    Args:
        facts: What it says.
        files: SHA-256 of each file by its path in the version, the manifest left out.
    """
    made = facts.provenance
    sources = facts.net.sources if isinstance(facts.net, MergedNet) else ()
    return {
        "format_version": _FORMAT_VERSION,
        "name": facts.name,
        "version": facts.version,
        "created_time": facts.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "labels": list(LABELS),
        "input": {"name": "faces", "dtype": "uint8", "height": FACE_SIZE, "width": FACE_SIZE, "channels": 1},
        "outputs": {name: name for name in facts.outputs},
        "mac_count": facts.net.mac_count,
        "parameter_count": facts.net.parameter_count,
        "temperature": facts.evaluation.temperature,
        "decisions": asdict(facts.evaluation.decisions),
        "metrics": facts.evaluation.metrics,
        "training": {
            "recipe": made.recipe,
            "seed": made.seed,
            "epochs": made.epochs,
            "minutes": made.minutes,
            "data_sha256": made.data_sha256,
            "train_count": made.train_count,
            "evaluation": made.evaluation,
            "framework": made.framework,
            **({"smoke": True} if made.smoke else {}),
        },
        **({"onnx": asdict(facts.onnx)} if facts.onnx else {}),
        **_quantized(facts.net),
        **({"merged": [asdict(source) for source in sources]} if sources else {}),
        "files": files,
    }


def _quantized(net: object) -> dict[str, Any]:
    if not isinstance(net, QuantizedNet):
        return {}
    return {
        "precision": "int8",
        "quantized": {**asdict(net.source), "accuracy_before": net.accuracy_before},
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a version.

    Raises:
        RunError: The folder holds no exported version, or its manifest does not say what this one writes.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_PATH).read_text("utf-8"))
        missing = {"name", "version", "labels", "mac_count", "parameter_count", "temperature", "training", "files"}
        missing -= manifest.keys()
    except FileNotFoundError:
        raise RunError(f"{folder}: holds no exported version") from None
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{folder}: cannot be read ({error})") from error
    if missing:
        raise RunError(f"{folder}: its manifest lacks {', '.join(sorted(missing))}")
    return manifest


def write_manifest(facts: VersionFacts, folder: Path) -> None:
    """Write the manifest of a version whose other files are all in place."""
    path = folder / MANIFEST_PATH
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(manifest_of(facts, digest_files(folder)), indent=2) + "\n", "utf-8")


def digest_files(folder: Path) -> dict[str, str]:
    """Compute the SHA-256 of every file of a version but its manifest, by POSIX path, sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if name != MANIFEST_PATH
    }
