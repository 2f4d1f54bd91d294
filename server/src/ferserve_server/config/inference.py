"""Declares the settings of engines and of batching."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from ferserve_server.backends.selection import AUTO, installed_backend
from ferserve_server.config.group import Group
from ferserve_server.scheduler.settings import BUCKET_SIZES


def _resolve_backend(value: str) -> str:
    return installed_backend() if value == AUTO else value


class EngineSettings(Group):
    """Holds the settings of engines, which run models."""

    engine: Literal["process", "thread"] = Field(
        "process" if sys.platform == "linux" else "thread",
        description="process: each loaded version runs in its own process; thread: all run in the server's",
    )
    backend: Annotated[
        Literal["auto", "tensorflow", "onnxruntime", "openvino"], AfterValidator(_resolve_backend)
    ] = Field(
        installed_backend(),
        description="library that runs models; the last two run model.onnx, on the CPU; auto: the first that is "
        "installed",
    )
    executor_count: int = Field(
        0, ge=0, le=256, description="batches that run concurrently; 0: cores, or 2 on a GPU"
    )
    intra_op_threads: int = Field(1, ge=1, le=256, description="threads within one operation")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="arithmetic of models; auto: bfloat16 where it is clearly faster and gives the same answers",
    )
    gpu_memory_limit_mib: int = Field(
        0, ge=0, description="maximum GPU memory of an engine process, in MiB; 0: grows as needed"
    )
    gpu_xla: bool = Field(False, description="compile models with XLA on a GPU, once for every batch size")
    standby_engines: int = Field(
        0, ge=0, le=4, description="idle engine processes per version, which replace one that crashes or hangs"
    )
    execution_timeout_s: float = Field(30.0, gt=0, description="seconds after which a batch counts as hung")


def _split_sizes(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class BatchingSettings(Group):
    """Holds the settings of batches and their queues."""

    bucket_sizes: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_split_sizes)] = Field(
        BUCKET_SIZES,
        description="batch sizes in faces, ascending, such as 1,8,32; batches are padded to the next one",
    )
    tune: Literal["auto", "fixed"] = Field(
        "auto", description="auto: measure each version and skip batch sizes without benefit; fixed: use all"
    )
    tune_cache: Path | None = Field(None, description="file that keeps the measurements of versions")
    target_p99_ms: float = Field(
        0.0, ge=0, description="latency target in milliseconds, which limits the largest batch; 0: no target"
    )
    max_queue_delay_ms: float = Field(
        0.0, ge=0, le=10_000, description="milliseconds that a small batch waits for more faces; 0: none"
    )
    max_queue_faces: int = Field(
        4096, ge=1, description="faces that may wait per model version; beyond it RESOURCE_EXHAUSTED"
    )
    max_queue_faces_per_caller: int = Field(
        0,
        ge=0,
        description="faces of one connection or identity that may wait per model version; 0: no such limit",
    )
    max_queue_mib: int = Field(64, ge=1, description="MiB of crops that may wait per model version")
    bulk_promotion_ms: float = Field(
        250.0, ge=0, description="milliseconds after which bulk requests are treated as interactive"
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        sizes = self.bucket_sizes
        if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
            raise ValueError(f"bucket_sizes must rise from 1 or more, got {','.join(map(str, sizes))}")
        return self
