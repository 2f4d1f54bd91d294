"""The settings of canaries, for all models and for single ones."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode

from ferserve_server.domain.canary import CanaryMode
from ferserve_server.model_settings import ModelSettings
from ferserve_server.repository.aliases import CANARY, STABLE, parse_aliases
from ferserve_server.repository.canary_rules import CanaryPolicies, CanaryRules, parse_canaries

_PREFIX: Final = "canary_"
"""What the settings of all models have before the names that a single model's settings go by."""

_FINITE: Final = ConfigDict(allow_inf_nan=False)


class CanarySettings(ModelSettings):
    """The second part of `ferserve_server.settings.Settings`."""

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
        """How new versions are tried, by model."""
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
        """The value of a model's own setting, which must be one that the setting for all models may have."""
        field = cls.model_fields[_PREFIX + name]
        try:
            kind: Any = Annotated[field.annotation, *field.metadata, Field()]
            adapter: TypeAdapter[Any] = TypeAdapter(kind, config=_FINITE)
            return adapter.validate_python(text)
        except ValidationError as error:
            raise ValueError(f"canary {model}: {name}: {error.errors()[0]['msg']}, got {text!r}") from None
