"""Declares the settings of the model folder, of loading and validating versions, and of canaries."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_settings import NoDecode

from ferserve_server.config.group import Group, split_lines
from ferserve_server.domain.canary import CanaryMode
from ferserve_server.models.aliases import parse_aliases
from ferserve_server.models.canary.rules import CanaryPolicies, CanaryRules, parse_canaries
from ferserve_server.models.version_policy import parse_policies


def default_model_repo() -> Path:
    """Returns ./model_repo if it exists, else the folder of the installed ferserve-models, else ./model_repo."""
    local = Path("model_repo")
    if not local.is_dir():
        found = importlib.util.find_spec("ferserve_models")
        if found is not None and found.submodule_search_locations:
            return Path(next(iter(found.submodule_search_locations)))
    return local


def _checked_policies(lines: tuple[str, ...]) -> tuple[str, ...]:
    parse_policies(lines)
    return lines


def _checked_aliases(lines: tuple[str, ...]) -> tuple[str, ...]:
    parse_aliases(lines)
    return lines


# Repeated flags are joined with commas; a comma within a policy is followed by no =.
_split_policies = partial(split_lines, separator=re.compile(r";|,(?=[^,;]*=)"))


_split_paths = partial(split_lines, separator=re.compile(r"[;,]"))


class ModelsSettings(Group):
    """Holds the settings of models: where they are, which versions are loaded, and what a version must meet."""

    model_repo: Path = Field(
        default_model_repo(),
        description="folder of models, <model>/<version>/; if there is no ./model_repo, that of ferserve-models",
    )
    default_model: str = Field("fer-small", description="model of requests that name none")
    versions_per_model: int = Field(1, ge=1, le=16, description="newest versions of a model to keep loaded")
    version_policy: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split_policies), AfterValidator(_checked_policies)
    ] = Field(
        (),
        description="MODEL=latest:N, MODEL=specific:V,... or MODEL=all for one model; repeat, or separate with ;",
    )
    alias: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split_policies), AfterValidator(_checked_aliases)
    ] = Field((), description="MODEL:NAME=VERSION, such as fer-nano:stable=3; repeat, or separate with ;")
    lifecycle_state_file: Path | None = Field(
        None, description="file that keeps aliases set at run time and the versions that were rolled back"
    )
    repository_poll_s: float = Field(
        2.0, ge=0, description="maximum seconds between scans of the model folder; 0: scan at start only"
    )
    model_key: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_paths)] = Field(
        (),
        description="PEM public key of a signer of versions; versions that none of the keys signed are rejected; "
        "repeat, or separate with ;",
    )
    golden_tolerance: float = Field(
        1e-3,
        gt=0,
        lt=1,
        description="maximum difference between a version's probabilities and those of its golden set",
    )
    bfloat16_tolerance: float = Field(
        0.03, gt=0, lt=1, description="the same maximum for a version that runs in bfloat16 or int8"
    )
    validation_latency_factor: float = Field(
        3.0,
        ge=0,
        description="a new version is rejected if it takes this many times as long as the active one; 0: it may",
    )
    load_step_timeout_s: float = Field(
        60.0,
        gt=0,
        description="maximum seconds of one step of loading a version; five times as many during live traffic",
    )
    load_memory_mib: int = Field(
        0,
        ge=0,
        description="maximum MiB of a version's engine process while it loads; 0: four fifths of the free memory",
    )


_PREFIX: Final = "canary_"
"""Prefix of the settings for all models, before the names used for a single model."""

_FINITE: Final = ConfigDict(allow_inf_nan=False)

# Repeated flags are joined with commas; a comma within a model's settings is followed by no : before the next =.
_split_canaries = partial(split_lines, separator=re.compile(r";|,(?=[^,;=]*:)"))


def _checked_canaries(lines: tuple[str, ...]) -> tuple[str, ...]:
    parse_canaries(lines)
    return lines


class CanarySettings(Group):
    """Holds the settings of canaries, for all models and for single ones."""

    canary_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of requests that a new version gets as a canary; 0: it becomes active at once",
    )
    canary_mode: CanaryMode = Field(
        CanaryMode.SPLIT,
        description="split: the canary answers its share of requests; shadow: it gets copies of them, and its "
        "answers are only compared",
    )
    canary_window_s: float = Field(600.0, gt=0, description="minimum seconds of a canary before a promotion")
    canary_min_requests: int = Field(
        200, ge=10, description="minimum requests of each of the two versions before a promotion"
    )
    canary_max_error_ratio_increase: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="maximum excess of its share of failed requests over the stable version's",
    )
    canary_max_latency_factor: float = Field(
        1.5, ge=1, description="maximum ratio of the canary's batch duration to the stable version's"
    )
    canary_max_confidence_drop: float = Field(
        0.1, ge=0, le=1, description="maximum drop of the mean confidence below the stable version's"
    )
    canary_min_agreement: float = Field(
        0.0,
        ge=0,
        le=1,
        description="minimum share of faces that a shadow must label like the stable version to be promoted "
        "automatically; 0: shadows are not",
    )
    canary_auto: bool = Field(True, description="promote and roll back automatically; off: only report verdicts")
    canary: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split_canaries), AfterValidator(_checked_canaries)
    ] = Field(
        (),
        description="MODEL:NAME=VALUE,... for one model, such as net:share=0.1,mode=shadow; a NAME is one of the "
        "settings above, without canary_; repeat, or separate with ;",
    )

    @property
    def policies(self) -> CanaryPolicies:
        """Returns the canary rules, by model."""
        names = (name for name in type(self).model_fields if name.startswith(_PREFIX))
        default = CanaryRules(**{name.removeprefix(_PREFIX): getattr(self, name) for name in names})
        by_model = {
            model: replace(default, **{name: self._value_of(model, name, text) for name, text in own.items()})
            for model, own in parse_canaries(self.canary).items()
        }
        return CanaryPolicies(default, by_model)

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        policies = self.policies
        for model, rules in {"": policies.default, **policies.by_model}.items():
            if rules.share == 1 and rules.mode is CanaryMode.SPLIT:
                name = f"canary {model}: share" if model else "canary_share"
                raise ValueError(f"{name} must be below 1 to split: nothing would be left to compare with")
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
