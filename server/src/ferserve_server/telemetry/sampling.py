"""Decides which calls are traced, from the caller's flag and the standard variables. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_server.domain.trace import RemoteParent

RATIO_MASK: Final = 2**64 - 1
"""Bits of a trace id that the ratio looks at, as the sampler `traceidratio` of OpenTelemetry's SDKs does."""

DEFAULT_SAMPLER: Final = "parentbased_always_on"
"""Sampler where OTEL_TRACES_SAMPLER names none (OpenTelemetry, environment variable specification)."""


class SamplerError(ValueError):
    """Reports a sampler that the variables name and that is none; the text says which there are."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """Samples calls.

    Attributes:
        follows_parent: Whether the flag of a caller that sent a trace context decides.
        ratio: Share of the other calls that are sampled, 0.0 to 1.0.
    """

    follows_parent: bool = True
    ratio: float = 1.0

    def samples(self, parent: RemoteParent | None, trace_id: int) -> bool:
        """Decides about a call.

        Args:
            parent: The caller's trace context, or None.
            trace_id: Id of the call's trace: the caller's, or a random one of 128 bits.
        """
        if parent is not None and self.follows_parent:
            return parent.sampled
        return trace_id & RATIO_MASK < self.bound

    @property
    def bound(self) -> int:
        """Returns the number that the lower bits (`RATIO_MASK`) of the ids of sampled traces are below."""
        return round(self.ratio * (RATIO_MASK + 1))


def read_sampler(environment: Mapping[str, str]) -> Sampler:
    """Reads OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG.

    Raises:
        SamplerError: They name no sampler.
    """
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip().lower() or DEFAULT_SAMPLER
    follows_parent = name.startswith("parentbased_")
    kind = name.removeprefix("parentbased_")
    if kind in {"always_on", "always_off"}:
        return Sampler(follows_parent, 1.0 if kind == "always_on" else 0.0)
    if kind != "traceidratio":
        raise SamplerError(
            f"OTEL_TRACES_SAMPLER {name!r} is none: use always_on, always_off or traceidratio, "
            "each also with parentbased_ before it"
        )
    text = environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1.0"
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise SamplerError(f"OTEL_TRACES_SAMPLER_ARG {text!r} is no ratio: use a number from 0.0 to 1.0")
    return Sampler(follows_parent, ratio)
