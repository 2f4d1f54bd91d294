"""Models, their versions and what is known of them. The words are TensorFlow Serving's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ferserve_server.domain.errors import FerserveError


@dataclass(frozen=True, slots=True, order=True)
class ServableId:
    """One version (1 or more) of one model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model a caller wants: `name` "" is the default model, `version` None the newest ready."""

    name: str = ""
    version: int | None = None


class ServableState(Enum):
    """Where a version is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a model takes: uint8 [N, height, width, 1] under `name`."""

    name: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class EnsembleMember:
    """A version that an ensemble averages, as it was when the ensemble was published.

    Attributes:
        id: The version.
        manifest_sum: SHA-256 of its manifest, in hex; the manifest in turn holds the sums of all its other files.
    """

    id: ServableId
    manifest_sum: str


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a version's manifest says of it.

    Attributes:
        labels: Names of the classes, in the order of the scores.
        input: What it takes.
        output: Name of the output that holds the calibrated probabilities.
        mac_count: Multiply-accumulate operations per face, 0 if not known.
        parameter_count: Number of weights, 0 if not known.
        metrics: What was measured of it when it was made, by name.
        members: The versions whose probabilities are averaged, if it is an ensemble; else empty.
    """

    labels: tuple[str, ...]
    input: InputSpec
    output: str = "probabilities"
    mac_count: int = 0
    parameter_count: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    members: tuple[EnsembleMember, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version as it stands: `description` is None until its manifest was read."""

    id: ServableId
    state: ServableState
    description: ModelDescription | None = None
    failure: FerserveError | None = None
    bucket_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model as it stands, its versions newest first."""

    name: str
    default: bool
    versions: tuple[VersionStatus, ...]
