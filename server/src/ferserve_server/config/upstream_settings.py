"""Declares the settings of a server that runs no models and sends faces to servers that do."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from ferserve_server.config.model_settings import CanarySettings
from ferserve_server.upstream.target import parse_target

_OF_MODELS: Final = (
    "default_model",
    "versions_per_model",
    "version_policy",
    "alias",
    "lifecycle_state_file",
    "control_listen",
    "control_on_main",
    "control_token_file",
    "backend",
    "executor_count",
    "precision",
    "tune",
    "tune_cache",
    "target_p99_ms",
    "gpu_memory_limit_mib",
    "gpu_xla",
    "bucket_sizes",
)
"""Settings without effect where no models run, beside those of canaries. `model_repo` is not among them, because
the container image sets it."""


class UpstreamSettings(CanarySettings):
    """Declares the third part of `ferserve_server.config.settings.Settings`."""

    # Model tier
    upstream: str = Field(
        "",
        description="HOST:PORT of servers that run the models, several ADDRESS:PORT parted by commas, or a gRPC "
        "target such as dns:///NAME:PORT; this server then loads none. Empty: it loads its own",
    )
    upstream_batches: int = Field(
        4,
        ge=1,
        le=1024,
        description="batches of a model and priority that are under way to the tier at once",
    )
    upstream_batch_faces: int = Field(
        128,
        ge=1,
        le=65_536,
        description="faces of the largest batch; at most the tier's max_faces_per_request",
    )
    upstream_attempts: int = Field(
        3, ge=1, le=5, description="tries of one such batch while the answer is UNAVAILABLE, the first included"
    )
    upstream_refresh_s: float = Field(
        1.0, gt=0, le=3600, description="seconds between looks at the model tier's models"
    )
    upstream_ca_file: Path | None = Field(
        None, description="PEM authorities of the model tier's certificates; turns TLS to it on"
    )
    upstream_cert_file: Path | None = Field(
        None, description="PEM certificate chain to show the model tier, if it asks"
    )
    upstream_key_file: Path | None = Field(None, description="PEM private key of that certificate")

    @field_validator("upstream")
    @classmethod
    def _check_target(cls, value: str) -> str:
        if value:
            parse_target(value)
        return value

    @model_validator(mode="after")
    def _check_upstream(self) -> Self:
        if (self.upstream_cert_file is None) != (self.upstream_key_file is None):
            raise ValueError("upstream_cert_file and upstream_key_file must be given together")
        if self.upstream_cert_file and not self.upstream_ca_file:
            raise ValueError("upstream_cert_file needs upstream_ca_file")
        if not self.upstream:
            return self
        given = [
            name
            for name, field in type(self).model_fields.items()
            if (name in _OF_MODELS or name.startswith("canary")) and getattr(self, name) != field.default
        ]
        if given:
            raise ValueError(
                f"with upstream no models run here: give {', '.join(given)} to the servers of the tier instead"
            )
        return self
