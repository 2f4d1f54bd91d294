"""Decides over further tries of failed unary calls.

Every unary call of ferserve is pure, so that a second try never does anything twice. But an input that
crashes a model does so with every try, and takes the answers of others with it. So only two kinds of
failure are retried: those that the server declares safe (`retry_safe` in the status: no model has run
on the request), and UNAVAILABLE that no ferserve server has sent, because none was reached.
RESOURCE_EXHAUSTED says that the server has too much work already, and is retried only where the caller
asks for it. Source: AIP-194.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferserve_client.errors import QueueFullError, ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_client.errors import FerserveError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Sets the number of tries of a unary call and the waits between them."""

    max_attempts: int = 5
    """Tries of one call, the first included. 1: never again."""
    initial_backoff_s: float = 0.1
    """Longest wait before the second try; doubles with every further one."""
    max_backoff_s: float = 2.0
    """Where the doubling ends."""
    retry_when_full: bool = False
    """Whether QUEUE_FULL is tried again too, not before the time that the server asks for."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be 1 or more, not {self.max_attempts}")
        if not 0 < self.initial_backoff_s <= self.max_backoff_s:
            raise ValueError("initial_backoff_s must be above 0 and at most max_backoff_s")


NO_RETRIES = RetryPolicy(max_attempts=1)
"""Every failure reaches the caller at once."""


def decide(
    error: FerserveError, *, attempt: int, remaining_s: float, policy: RetryPolicy, jitter: float
) -> float | None:
    """Return the wait before the next try, or None to give up.

    Args:
        error: Error of the last try.
        attempt: Number of the last try, from 1.
        remaining_s: Seconds that are left until the call's deadline.
        policy: Number of tries, and waits.
        jitter: A random number, 0 to 1, that keeps callers that failed together from coming back
            together. The backoff is spread over its upper half.

    Returns:
        Seconds to wait, always less than `remaining_s`; None to raise `error`.
    """
    if not _is_retried(error, policy) or attempt >= policy.max_attempts:
        return None
    # The exponent is bounded so that it never overflows: 2**32 backoffs are above any maximum.
    backoff_s = min(policy.max_backoff_s, policy.initial_backoff_s * 2 ** min(attempt - 1, 32))
    wait_s = (error.retry_delay_s or 0.0) + backoff_s * (0.5 + 0.5 * jitter)
    return wait_s if wait_s < remaining_s else None


def _is_retried(error: FerserveError, policy: RetryPolicy) -> bool:
    if error.reason and not error.retry_safe:
        return False
    if isinstance(error, QueueFullError):
        return policy.retry_when_full
    return isinstance(error, ServerUnavailableError)


class Tries:
    """Counts the tries of one call against its deadline.

    Not thread-safe: one call, one object.

    Args:
        policy: Number of tries, and waits.
        timeout_s: Seconds that the call may take, waits and all tries together.
        clock: Gives monotonic seconds.
        random: Gives numbers from 0 to 1.

    Raises:
        ValueError: `timeout_s` is not above 0.
    """

    def __init__(
        self, policy: RetryPolicy, timeout_s: float, clock: Callable[[], float], random: Callable[[], float]
    ) -> None:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, not {timeout_s}")
        self._policy = policy
        self._clock = clock
        self._random = random
        self._deadline = clock() + timeout_s
        self._attempt = 0

    def begin(self) -> float:
        """Begin the next try; return the seconds that it may take, 0 or more, infinity for a call without end."""
        self._attempt += 1
        return max(0.0, self._deadline - self._clock())

    def wait_after(self, error: FerserveError) -> float:
        """Return the seconds to wait before the next try.

        Raises:
            FerserveError: `error` itself, if there is no next try.
        """
        wait_s = decide(
            error,
            attempt=self._attempt,
            remaining_s=self._deadline - self._clock(),
            policy=self._policy,
            jitter=self._random(),
        )
        if wait_s is None:
            raise error
        return wait_s
