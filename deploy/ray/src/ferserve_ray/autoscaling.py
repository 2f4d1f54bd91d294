"""Decides on the number of replicas by the age of their queues. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from ray.serve.config import AutoscalingContext

QUEUE_AGE: Final = "queue_age_s"
"""Name under which replicas report the age of their queue, in seconds."""

TARGET_QUEUE_AGE_S: Final = 0.05
"""Age of the oldest waiting face above which a replica is added. Milliseconds until the engine is the limit."""

_LOW: Final = 0.2
"""Share of the target below which a replica is removed: the load of N replicas on N - 1 makes queues older."""


def desired_replicas(ages_s: Collection[float], current: int, target_s: float = TARGET_QUEUE_AGE_S) -> int:
    """Returns the number of replicas that is wanted.

    One more if queues are older than the target on average, one less if all are much younger: under a load above
    what the replicas can do the age grows without bound, and does not say how many are missing.
    Ray's `upscale_delay_s` and `downscale_delay_s` set the pace.

    Args:
        ages_s: Age of each replica's queue, in seconds. Empty: unknown, and nothing changes.
        current: Replicas that there are.
        target_s: Age to stay below, in seconds.
    """
    if not ages_s:
        return current
    if sum(ages_s) / len(ages_s) > target_s:
        return current + 1
    if max(ages_s) < _LOW * target_s and len(ages_s) >= current:
        return max(1, current - 1)
    return current


def by_queue_age(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Decides for Ray Serve (`AutoscalingPolicy.policy_function`)."""
    ages = (context.aggregated_metrics or {}).get(QUEUE_AGE, {})
    return desired_replicas(list(ages.values()), context.target_num_replicas), {}
