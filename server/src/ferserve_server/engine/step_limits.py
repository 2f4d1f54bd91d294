"""Decides when a loading step exceeds its limits of time, processor time and memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

YIELDING_FACTOR: Final = 5
"""Factor on the time limit of a step that yields the processor to live traffic, because it may get none for a
while. Its processor time stays within the plain limit: an endless loop ends as soon as on an idle machine."""


@dataclass(frozen=True, slots=True)
class StepLimits:
    """Sets the limits of each step of loading a version in an engine process.

    Attributes:
        timeout_s: Time of a step, in seconds, above 0.
        memory_bytes: Resident memory of the process while it loads, in bytes; 0 for no limit.
        threads: Threads that a step uses at once, whose processor times add up.
    """

    timeout_s: float = 60.0
    memory_bytes: int = 0
    threads: int = 1


@dataclass(frozen=True, slots=True)
class StepUse:
    """Represents a step's use so far: time and processor time in seconds, and resident memory in bytes.

    `elapsed_s` leaves out the time that its process waited for a processor.
    """

    elapsed_s: float
    cpu_s: float
    resident_bytes: int


def longest_delay_s(before_s: Mapping[str, float], after_s: Mapping[str, float], elapsed_s: float) -> float:
    """Returns how long a process waited for a processor: the longest wait of its threads, within the time elapsed.

    A step is not to blame for a machine with more work than cores.

    Args:
        before_s: Waits of its threads so far, in seconds, at an earlier check.
        after_s: The same now.
        elapsed_s: Time between both, in seconds.
    """
    waits = (after_s[thread] - before_s.get(thread, after_s[thread]) for thread in after_s)
    return min(elapsed_s, max(waits, default=0.0))


def exceeded_limit(use: StepUse, limits: StepLimits, *, low_priority: bool) -> tuple[str, str] | None:
    """Decides whether a step has to be ended.

    Args:
        use: Its use so far.
        limits: Its limits.
        low_priority: True if it yields the processor to live traffic.

    Returns:
        Reason and text for `ModelRejectedError`, or None.
    """
    if limits.memory_bytes and use.resident_bytes > limits.memory_bytes:
        return "LOAD_OUT_OF_MEMORY", (
            f"it took more than {limits.memory_bytes >> 20} MiB (setting load_memory_mib)"
        )
    too_long = use.elapsed_s > limits.timeout_s * (YIELDING_FACTOR if low_priority else 1)
    if too_long or (low_priority and use.cpu_s > limits.timeout_s * limits.threads):
        return "LOAD_TIMED_OUT", f"it took more than {limits.timeout_s:g} s (setting load_step_timeout_s)"
    return None
