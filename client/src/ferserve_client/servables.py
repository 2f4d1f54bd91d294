"""Describes models, their versions and the server's health."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_client.errors import FerserveError


@dataclass(frozen=True, slots=True)
class Servable:
    """Names one version of one model."""

    name: str
    """Name of the model."""
    version: int
    """Version of the model, 1 or more."""


class ServableState(StrEnum):
    """Names the state of one version in the server."""

    UNKNOWN = "unknown"
    """Not said, or a state that this client is too old to know."""
    WAITING = "waiting"
    """On disk, to be loaded after others or tried again later."""
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ValidationInfo:
    """Holds the results of a version's validation. None: not measured, or nothing to compare with."""

    golden_difference: float
    """Largest difference from the scores that it was published with, as a probability."""
    active_version: int | None = None
    """The active version that it was compared with."""
    agreement: float | None = None
    """Share of the golden faces for which both find the same class most probable, 0 to 1."""
    largest_difference: float | None = None
    """Largest difference of a probability between the two."""
    latency_ms: Mapping[int, float] = field(default_factory=dict)
    """Time of a batch, in milliseconds, by its size in faces."""
    active_latency_ms: Mapping[int, float] = field(default_factory=dict)
    """The same of the active version."""


@dataclass(frozen=True, slots=True)
class ModelVersionInfo:
    """Describes one version of a model."""

    version: int
    """1 or more."""
    state: ServableState
    """Its state."""
    error: FerserveError | None
    """Reason for `ServableState.FAILED`, otherwise None."""
    labels: tuple[str, ...]
    """Names of the classes, in the order of the scores."""
    input_height: int
    """Height of the model's input in pixels."""
    input_width: int
    """Width of the model's input in pixels."""
    mac_count: int | None
    """Multiply-accumulate operations per face. None: not known."""
    parameter_count: int | None
    """Number of weights. None: not known."""
    metrics: Mapping[str, float]
    """Figures measured when it was made, by name, such as `public_test_accuracy` (0 to 1)."""
    bucket_sizes: tuple[int, ...]
    """Batch sizes that are warmed and used, smallest first, in faces."""
    aliases: tuple[str, ...] = ()
    """Aliases that name it, sorted."""
    validation: ValidationInfo | None = None
    """Results of its validation. None before."""
    precision: str | None = None
    """Number format of its computation, `float32` or `bfloat16`. None: not ready, or not said."""
    bfloat16_speedup: float | None = None
    """Ratio of the throughputs of bfloat16 and float32 when it was loaded. None: not measured."""
    latency_ms: Mapping[int, float] = field(default_factory=dict)
    """Median time of a batch in milliseconds, by its size in faces. Empty: not measured."""
    uncertain_threshold: float | None = None
    """A face whose confidence lies below it is uncertain, 0 to 1. None: not known yet."""
    not_a_face_threshold: float | None = None
    """A crop whose probability of showing no face reaches it is none. None: the version does not tell."""


@dataclass(frozen=True, slots=True)
class CanaryInfo:
    """Describes a version that is compared on live traffic."""

    version: int
    """The version."""
    stable_version: int
    """The version that it is compared with."""
    mode: str
    """`split`: it answers its share; `shadow`: it gets copies and answers nobody; `unknown` to this client."""
    share: float
    """Its share of the requests that name no version, above 0, at most 1."""
    elapsed_s: float
    """Seconds since its start as a canary."""
    verdict: str
    """Verdict of the figures so far: `wait`, `promote`, `roll_back`, or `unknown` to this client."""
    reason: str
    """Reason of the verdict, in UPPER_SNAKE_CASE."""
    text: str
    """Reason of the verdict, with the figures."""
    request_count: int
    """Requests that it had, or copies of them."""
    failed_count: int
    """Those that it failed."""
    shadow_agreement: float | None = None
    """Share of faces for which a shadow finds the same class. None: no shadow, or nothing compared."""
    shadow_largest_difference: float | None = None
    """Largest difference of a probability. None: as above."""


@dataclass(frozen=True, slots=True)
class SkippedFolder:
    """Describes a folder in the model folder that is no version, and is not served."""

    folder: str
    """Its name in the folder of the model; "" for that folder itself."""
    error: FerserveError
    """Reason, such as `VERSION_NAME_INVALID` or `MANIFEST_MISSING`."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Describes a model and its versions."""

    name: str
    """Name of the model."""
    is_default: bool
    """Whether requests that name no model get this one."""
    versions: tuple[ModelVersionInfo, ...]
    """Newest first."""
    version_policy: str = ""
    """Choice of the versions that the server keeps ready: `latest:2`, `specific:1,3` or `all`."""
    aliases: Mapping[str, int] = field(default_factory=dict)
    """The version behind each alias."""
    serving_version: int | None = None
    """The version that answers requests which name none. None: none is ready."""
    canary: CanaryInfo | None = None
    """The version that is compared on a share of them. None: there is none."""
    skipped_folders: tuple[SkippedFolder, ...] = ()
    """Folders of the model that are no version."""


class HealthStatus(StrEnum):
    """Names the health of a service (grpc.health.v1)."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not_serving"
