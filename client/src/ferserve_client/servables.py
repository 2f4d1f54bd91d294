"""Models, their versions and the server's health."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_client.errors import FerserveError


@dataclass(frozen=True, slots=True)
class Servable:
    """One version of one model."""

    name: str
    """Name of the model."""
    version: int
    """Version of the model, 1 or more."""


class ServableState(StrEnum):
    """State of one version in the server."""

    UNKNOWN = "unknown"
    """Not said, or a state that this client is too old to know."""
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ModelVersionInfo:
    """One version of a model."""

    version: int
    """1 or more."""
    state: ServableState
    """What state it is in."""
    error: FerserveError | None
    """Why it is in `ServableState.FAILED`, otherwise None."""
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
    """What was measured when it was made, by name, such as `public_test_accuracy` (0 to 1)."""
    bucket_sizes: tuple[int, ...]
    """Batch sizes that are warmed and used, smallest first, in faces."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model and its versions."""

    name: str
    """Name of the model."""
    is_default: bool
    """Whether requests that name no model get this one."""
    versions: tuple[ModelVersionInfo, ...]
    """Newest first."""


class HealthStatus(StrEnum):
    """What a server says of one of its services (grpc.health.v1)."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not_serving"
