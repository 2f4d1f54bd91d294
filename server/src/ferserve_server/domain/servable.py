"""Defines models, their versions and their metadata. The terms are TensorFlow Serving's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np

from ferserve_server.domain.canary import CanaryReport
from ferserve_server.domain.errors import AliasNotFoundError, FerserveError
from ferserve_server.domain.face import CropBatch, Scores


class ServableId(NamedTuple):
    """Names one version (1 or more) of one model. A tuple, because each batch looks it up several times."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def labels(self) -> tuple[str, str]:
        """Returns the labels of its metrics: model and version."""
        return self.name, str(self.version)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Specifies the requested model: `name` "" is the default model.

    Either `version` or `alias` picks one of its versions. With neither (None and "") it is the one behind the
    alias `stable`, or without that alias the newest ready one.
    """

    name: str = ""
    version: int | None = None
    alias: str = ""


class ServableState(Enum):
    """Defines the states of a version. WAITING: it will be loaded after others."""

    WAITING = "waiting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


class Precision(Enum):
    """Defines the precision of a model's computation. Scores are float32 in any case.

    Versions are published in float32, and run in it or in bfloat16; or published in int8, and run in that alone.
    """

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Describes a model's input: uint8 [N, height, width, 1] under `name`."""

    name: str
    height: int
    width: int

    def blank(self, count: int) -> CropBatch:
        """Makes faces of zeros, uint8 [count, height, width, 1]."""
        return np.zeros((count, self.height, self.width, 1), np.uint8)


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """Holds the content of a version's manifest.

    Attributes:
        labels: Names of the classes, in the order of the scores.
        input: What it takes.
        output: Name of the output that holds the calibrated probabilities.
        mac_count: Multiply-accumulate operations per face, 0 if not known.
        parameter_count: Number of weights, 0 if not known.
        metrics: What was measured of it when it was made, by name.
        precision: What it was published in, float32 or int8.
        uncertain_threshold: A face whose highest probability lies below it is uncertain, 0.0 to 1.0.
        not_a_face_output: Name of the output with the probability that a crop shows no face; "" where the version
            has none, or its manifest states no threshold for it.
        not_a_face_threshold: A crop whose probability reaches it shows no face, above 0.0 to 1.0.
    """

    labels: tuple[str, ...]
    input: InputSpec
    output: str = "probabilities"
    mac_count: int = 0
    parameter_count: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    precision: Precision = Precision.FLOAT32
    uncertain_threshold: float = 0.5
    not_a_face_output: str = ""
    not_a_face_threshold: float = 0.5

    @property
    def score_column_count(self) -> int:
        """Returns an engine's column count: one per label, and one for `not_a_face_output`."""
        return len(self.labels) + bool(self.not_a_face_output)


@dataclass(frozen=True, slots=True)
class ValidationComparison:
    """Compares a version with the active one at its load.

    Attributes:
        version: The active version.
        agreement: Share of the golden faces, 0 to 1, for which both find the same class most probable; None if
            the two have different classes or inputs.
        largest_difference: Largest difference of a probability on the golden faces; None as above.
        latency_s: Least time of a batch, in seconds: of this version and of the one active, by batch size.
            Empty if it was not measured.
    """

    version: int
    agreement: float | None = None
    largest_difference: float | None = None
    latency_s: Mapping[int, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValidationFigures:
    """Holds the figures of a version's validation.

    Attributes:
        golden_difference: Largest difference from the scores it was published with, as a probability.
        comparison: How it compared with the active version, or None if there was none.
    """

    golden_difference: float
    comparison: ValidationComparison | None = None


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Holds the faces that a version was published with, and its scores for them at that time.

    Attributes:
        faces: uint8 [N, H, W, 1], N >= 1.
        scores: float32 [N, K].
    """

    faces: CropBatch
    scores: Scores


@dataclass(frozen=True, slots=True)
class Tuning:
    """Describes the execution of a version on this machine.

    Attributes:
        precision: What it computes in.
        bucket_sizes: Batch sizes that are used, rising, in faces.
        bfloat16_speedup: How many times as many faces bfloat16 gets through as float32, in the largest batch; None
            if it was not measured.
        latency_s: Time of a batch, in seconds, by its size: the least of several. Of sizes that were measured:
            they need not be used, nor be all that are. Empty if none was.
    """

    precision: Precision
    bucket_sizes: tuple[int, ...]
    bfloat16_speedup: float | None = None
    latency_s: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """Describes a version: `description`, `validation` and `tuning` are None until it was loaded."""

    id: ServableId
    state: ServableState
    description: ModelDescription | None = None
    failure: FerserveError | None = None
    validation: ValidationFigures | None = None
    tuning: Tuning | None = None

    @property
    def bucket_sizes(self) -> tuple[int, ...]:
        """Returns the batch sizes in use, rising; none before it was loaded."""
        return self.tuning.bucket_sizes if self.tuning else ()


@dataclass(frozen=True, slots=True)
class SkippedFolder:
    """Describes a folder of the repository that is no version.

    Attributes:
        model: Name of the model's folder.
        folder: Name of the folder in it, or "" for the model's own.
        reason: Why, UPPER_SNAKE_CASE.
        message: The same as text.
    """

    model: str
    folder: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Describes a model at one moment, its versions newest first.

    Attributes:
        name: Name of the model.
        default: Whether requests that name no model get it.
        versions: Its versions.
        policy: Which of them are kept ready, as the setting `version_policy` says it.
        aliases: The version behind each alias.
        serving_version: The version that answers requests which name none, or None if none does.
        canary: The version that is tried on a share of them, or None if there is none.
        skipped: Folders of the model that are no version.
    """

    name: str
    default: bool
    versions: tuple[VersionStatus, ...]
    policy: str = ""
    aliases: Mapping[str, int] = field(default_factory=dict)
    serving_version: int | None = None
    canary: CanaryReport | None = None
    skipped: tuple[SkippedFolder, ...] = ()

    def version_behind(self, spec: ModelSpec) -> int | None:
        """Returns the version that `spec` pins, or None. `spec.name` is ignored.

        Raises:
            AliasNotFoundError: The model has no such alias.
        """
        if not spec.alias:
            return spec.version
        if spec.alias not in self.aliases:
            raise AliasNotFoundError(self.name, spec.alias, self.aliases)
        return self.aliases[spec.alias]
