"""Defines the canary rules of each model. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from ferserve_server.domain.canary import CanaryMode
from ferserve_server.domain.names import MODEL_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """Defines how new versions are evaluated as canaries.

    Attributes:
        share: Share of the requests without a version that a canary gets, at most 1; 0: it is active at once.
        mode: Use of these requests.
        window_s: Minimum time before it is promoted, in seconds.
        min_requests: Minimum number of ended requests of either version before that.
        max_error_ratio_increase: By how much the share of failed requests may be above the stable version's.
        max_latency_factor: Maximum ratio of the run times of batches of the same size.
        max_confidence_drop: By how much the mean confidence may be below the stable version's.
        min_agreement: Share of faces for which a shadow must find the same class; 0: any, and a shadow is then
            not promoted without an operator.
        auto: True if verdicts are carried out; False if they are only reported.
    """

    share: float
    mode: CanaryMode = CanaryMode.SPLIT
    window_s: float = 600.0
    min_requests: int = 200
    max_error_ratio_increase: float = 0.01
    max_latency_factor: float = 1.5
    max_confidence_drop: float = 0.1
    min_agreement: float = 0.0
    auto: bool = True


@dataclass(frozen=True, slots=True)
class CanaryPolicies:
    """Holds the canary rules of all models.

    Attributes:
        default: Those of models that have none of their own.
        by_model: Those of the others, by model.
    """

    default: CanaryRules = field(default_factory=lambda: CanaryRules(share=0.0))
    by_model: Mapping[str, CanaryRules] = field(default_factory=dict)

    def of(self, model: str) -> CanaryRules | None:
        """Returns the rules of a model; None if its new versions become active at once."""
        rules = self.by_model.get(model, self.default)
        return rules if rules.share else None

    @property
    def shortest_window_s(self) -> float | None:
        """Returns the shortest window of a model with canaries, in seconds; None if there is none."""
        return min((each.window_s for each in (self.default, *self.by_model.values()) if each.share), default=None)


def parse_canaries(lines: Sequence[str]) -> dict[str, dict[str, str]]:
    """Parses `MODEL:NAME=VALUE,...`, such as `fer-nano:share=0.1,mode=shadow`, one model per line.

    Returns:
        By model, the value of each attribute of `CanaryRules` that it names; the values as they are written.

    Raises:
        ValueError: A line is none, names a model again, or what is no attribute or one twice.
    """
    names = [each.name for each in fields(CanaryRules)]
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        model, colon, text = (part.strip() for part in line.partition(":"))
        if not colon or not MODEL_NAME.fullmatch(model):
            raise ValueError(f"{line!r} is not MODEL:NAME=VALUE,..., such as fer-nano:share=0.1,mode=shadow")
        if model in found:
            raise ValueError(f"model {model} is named twice; put all of it into one")
        found[model] = {}
        for part in text.split(","):
            name, equals, value = (each.strip() for each in part.partition("="))
            if not equals or name not in names:
                raise ValueError(f"{line!r}: {part.strip()!r} is not NAME=VALUE with a NAME of {', '.join(names)}")
            if name in found[model]:
                raise ValueError(f"{line!r} has {name} twice")
            found[model][name] = value
    return found
