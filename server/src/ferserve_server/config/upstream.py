"""Declares the settings of a server that runs no models and sends faces to servers that do."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from ferserve_server.config.group import Group
from ferserve_server.upstream.target import parse_target


def _checked_target(value: str) -> str:
    if value:
        parse_target(value)
    return value


class UpstreamSettings(Group):
    """Holds the settings of the model tier: servers that run the models for this one."""

    upstream: Annotated[str, AfterValidator(_checked_target)] = Field(
        "",
        description="HOST:PORT of servers that run the models, several ADDRESS:PORT separated by commas, or a "
        "gRPC target such as dns:///NAME:PORT; this server then loads none. Empty: it loads its own",
    )
    upstream_batches: int = Field(
        4, ge=1, le=1024, description="batches of a model and priority that the tier processes concurrently"
    )
    upstream_batch_faces: int = Field(
        128,
        ge=1,
        le=65_536,
        description="faces of the largest batch sent to the tier; at most its max_faces_per_request",
    )
    upstream_attempts: int = Field(
        3, ge=1, le=5, description="attempts to send such a batch while the status is UNAVAILABLE"
    )
    upstream_refresh_s: float = Field(
        1.0, gt=0, le=3600, description="seconds between requests for the tier's list of models"
    )
    upstream_ca_file: Path | None = Field(
        None, description="PEM authorities of the tier's certificates; turns TLS to it on"
    )
    upstream_cert_file: Path | None = Field(
        None, description="PEM certificate chain to show the tier, if it asks for one"
    )
    upstream_key_file: Path | None = Field(None, description="PEM private key of that certificate")

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if (self.upstream_cert_file is None) != (self.upstream_key_file is None):
            raise ValueError("upstream_cert_file and upstream_key_file must be given together")
        if self.upstream_cert_file and not self.upstream_ca_file:
            raise ValueError("upstream_cert_file needs upstream_ca_file")
        return self
