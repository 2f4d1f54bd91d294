"""The settings of models: where they lie, which versions are kept, and what a version must show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from ferserve_server.repository.aliases import parse_aliases
from ferserve_server.repository.version_policy import parse_policies


class ModelSettings(BaseSettings):
    """The first part of `ferserve_server.settings.Settings`."""

    config: Path | None = Field(None, description="TOML file with settings, named as here with underscores")
    print_config: bool = Field(False, description="print the settings in force as TOML, and exit")

    # Models
    model_repo: Path = Field(Path("model_repo"), description="folder of models, <model>/<version>/")
    default_model: str = Field("fer-small", description="model of requests that name none")
    versions_per_model: int = Field(1, ge=1, le=16, description="newest versions of a model to keep loaded")
    version_policy: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="MODEL=latest:N, MODEL=specific:V,... or MODEL=all for one model; repeat, or part by ;",
    )
    alias: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="MODEL:NAME=VERSION, such as fer-nano:stable=3; repeat, or part by ;"
    )
    lifecycle_state_file: Path | None = Field(
        None, description="file that keeps aliases set at run time, and which versions were rolled back"
    )
    repository_poll_s: float = Field(
        2.0, ge=0, description="longest seconds between looks at the model folder; 0: look at start only"
    )
    golden_tolerance: float = Field(
        1e-3, gt=0, lt=1, description="largest difference from a version's golden probabilities to go live with"
    )
    bfloat16_tolerance: float = Field(
        0.03, gt=0, lt=1, description="the same, for a version run in bfloat16 or int8"
    )
    gate_latency_factor: float = Field(
        3.0, ge=0, description="a version must not take this many times as long as the one in force; 0: it may"
    )

    load_step_timeout_s: float = Field(
        60.0,
        gt=0,
        description="seconds that a step of loading a version may take; five times as long beside live traffic",
    )
    load_memory_mib: int = Field(
        0,
        ge=0,
        description="MiB that the engine process of a version may hold while it is loaded; 0: four fifths of "
        "what is free",
    )
    standby_engines: int = Field(
        0, ge=0, le=4, description="engine processes kept ready for each version, to take over when one is lost"
    )

    @field_validator("version_policy", "alias", mode="before")
    @classmethod
    def _split_lines(cls, value: object) -> object:
        # The library joins repeated flags with commas; one within a policy has no = before the next comma.
        lines = re.split(r";|,(?=[^,;]*=)", value) if isinstance(value, str) else value
        return [line.strip() for line in lines if line.strip()] if isinstance(lines, list) else lines

    @field_validator("version_policy")
    @classmethod
    def _check_policies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_policies(value)
        return value

    @field_validator("alias")
    @classmethod
    def _check_aliases(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_aliases(value)
        return value
