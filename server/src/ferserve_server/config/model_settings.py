"""Declares the settings of models and canaries.

They cover the model folder, the kept versions and their validation limits, and canaries, for all models and for
single ones.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from ferserve_server.domain.canary import CanaryMode
from ferserve_server.domain.names import CANARY, STABLE
from ferserve_server.models.aliases import parse_aliases
from ferserve_server.models.canary.rules import CanaryPolicies, CanaryRules, parse_canaries
from ferserve_server.models.version_policy import parse_policies


def default_model_repo() -> Path:
    """Returns ./model_repo where it is, else the folder of the installed ferserve-models, else ./model_repo."""
    local = Path("model_repo")
    if not local.is_dir():
        found = importlib.util.find_spec("ferserve_models")
        if found is not None and found.submodule_search_locations:
            return Path(next(iter(found.submodule_search_locations)))
    return local


class ModelSettings(BaseSettings):
    """Declares the first part of `ferserve_server.config.settings.Settings`."""

    config: Path | None = Field(None, description="TOML file with settings, named as here with underscores")
    print_config: bool = Field(False, description="print the settings in force as TOML, and exit")

    # Models
    model_repo: Path = Field(
        default_model_repo(),
        description="folder of models, <model>/<version>/; without ./model_repo that of ferserve-models",
    )
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
    validation_latency_factor: float = Field(
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


_PREFIX: Final = "canary_"
"""Prefix of the settings of all models, before the names used for a single model."""

_FINITE: Final = ConfigDict(allow_inf_nan=False)


class CanarySettings(ModelSettings):
    """Declares the second part of `ferserve_server.config.settings.Settings`."""

    # Canaries
    canary_share: float = Field(
        0.0, ge=0, le=1, description="share of requests that a new version is tried on; 0: it is in force at once"
    )
    canary_mode: CanaryMode = Field(
        CanaryMode.SPLIT, description="split: it answers its share; shadow: it gets copies and answers nobody"
    )
    canary_window_s: float = Field(600.0, gt=0, description="least seconds of a trial before a promotion")
    canary_min_requests: int = Field(200, ge=10, description="least requests of either version before a promotion")
    canary_max_error_ratio_increase: float = Field(
        0.01, ge=0, lt=1, description="how far its share of failed requests may be above the stable version's"
    )
    canary_max_latency_factor: float = Field(
        1.5, ge=1, description="how many times as long as in the stable version its batches may take"
    )
    canary_max_confidence_drop: float = Field(
        0.1, ge=0, le=1, description="how far its mean confidence may be below the stable version's"
    )
    canary_min_agreement: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of faces a shadow must see alike to be promoted by itself; 0: it is not",
    )
    canary_auto: bool = Field(True, description="promote and roll back by itself; if not, verdicts are only told")
    canary: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="MODEL:NAME=VALUE,... for one model, such as net:share=0.1,mode=shadow; a NAME is one of the "
        "settings above, without canary_; repeat, or part by ;",
    )

    @property
    def canaries(self) -> CanaryPolicies:
        """Returns the canary rules, by model."""
        names = (name for name in type(self).model_fields if name.startswith(_PREFIX))
        default = CanaryRules(**{name.removeprefix(_PREFIX): getattr(self, name) for name in names})
        by_model = {
            model: replace(default, **{name: self._value_of(model, name, text) for name, text in own.items()})
            for model, own in parse_canaries(self.canary).items()
        }
        return CanaryPolicies(default, by_model)

    @field_validator("canary", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        # Repeated flags come joined with commas; one within a model's settings has no : before the next =.
        lines = re.split(r";|,(?=[^,;=]*:)", value) if isinstance(value, str) else value
        return [line.strip() for line in lines if line.strip()] if isinstance(lines, list) else lines

    @field_validator("canary")
    @classmethod
    def _check_models(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_canaries(value)
        return value

    @model_validator(mode="after")
    def _check_canaries(self) -> Self:
        policies = self.canaries
        for model, rules in {"": policies.default, **policies.by_model}.items():
            if rules.share == 1 and rules.mode is CanaryMode.SPLIT:
                name = f"canary {model}: share" if model else "canary_share"
                raise ValueError(f"{name} must be below 1 to split: nothing would be left to compare with")
        for model, aliases in parse_aliases(self.alias).items():
            for alias in {STABLE, CANARY} & aliases.keys() if policies.of(model) else ():
                raise ValueError(
                    f"alias {model}:{alias} is moved by canaries: take it out, or set canary_share to 0"
                )
        return self

    @classmethod
    def _value_of(cls, model: str, name: str, text: str) -> Any:  # noqa: ANN401 - whatever the setting's type is
        """Returns the value of a model's own setting, which must be valid for the setting of all models."""
        field = cls.model_fields[_PREFIX + name]
        try:
            kind: Any = Annotated[field.annotation, *field.metadata, Field()]
            adapter: TypeAdapter[Any] = TypeAdapter(kind, config=_FINITE)
            return adapter.validate_python(text)
        except ValidationError as error:
            raise ValueError(f"canary {model}: {name}: {error.errors()[0]['msg']}, got {text!r}") from None
