"""Tests the retry decisions for unary calls."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from ferserve_client.error_table import error_of
from ferserve_client.errors import ErrorFacts, FerserveError, ServerUnavailableError
from ferserve_client.retry import NO_RETRIES, RetryPolicy, Tries, decide

POLICY = RetryPolicy(max_attempts=4, initial_backoff_s=0.1, max_backoff_s=0.3)
PATIENT = RetryPolicy(max_attempts=4, initial_backoff_s=0.1, max_backoff_s=0.3, retry_when_full=True)


def error(
    code: StatusCode, reason: str = "", retry_delay_s: float | None = None, *, safe: str | None = None
) -> FerserveError:
    metadata = {} if safe is None else {"retry_safe": safe}
    return error_of(ErrorFacts(code, reason, metadata=metadata, retry_delay_s=retry_delay_s))


NOBODY = error(StatusCode.UNAVAILABLE)
DRAINING = error(StatusCode.UNAVAILABLE, "DRAINING", safe="true")
FULL = error(StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_delay_s=0.5, safe="true")
LOST_WITH_IT = error(StatusCode.UNAVAILABLE, "ENGINE_LOST", safe="false")
LOST_WITHOUT_IT = error(StatusCode.UNAVAILABLE, "ENGINE_LOST", safe="true")
UNSAID = error(StatusCode.UNAVAILABLE, "SOMETHING_NEW")
TOO_LARGE_MESSAGE = error(StatusCode.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize(
    ("failed_with", "attempt", "remaining_s", "policy", "jitter", "wait_s"),
    [
        pytest.param(NOBODY, 1, 10.0, POLICY, 1.0, 0.1, id="nobody there: the first backoff"),
        pytest.param(NOBODY, 1, 10.0, POLICY, 0.0, 0.05, id="jitter spreads over the upper half"),
        pytest.param(NOBODY, 2, 10.0, POLICY, 1.0, 0.2, id="the backoff doubles"),
        pytest.param(NOBODY, 3, 10.0, POLICY, 1.0, 0.3, id="up to its maximum"),
        pytest.param(NOBODY, 4, 10.0, POLICY, 1.0, None, id="tries are counted"),
        pytest.param(NOBODY, 1, 10.0, NO_RETRIES, 1.0, None, id="one try means one try"),
        pytest.param(NOBODY, 1, 0.1, POLICY, 1.0, None, id="no wait that ends at the deadline"),
        pytest.param(NOBODY, 1, 0.101, POLICY, 1.0, 0.1, id="a wait that ends before it"),
        pytest.param(NOBODY, 1, -1.0, POLICY, 0.0, None, id="the deadline is over"),
        pytest.param(DRAINING, 1, 10.0, POLICY, 1.0, 0.1, id="draining: another server may answer"),
        pytest.param(FULL, 1, 10.0, POLICY, 1.0, None, id="a full queue is not pressed"),
        pytest.param(FULL, 1, 10.0, PATIENT, 1.0, 0.6, id="unless asked, after the server's delay"),
        pytest.param(FULL, 1, 10.0, PATIENT, 0.0, 0.55, id="never before the server's delay"),
        pytest.param(FULL, 1, 0.5, PATIENT, 0.0, None, id="a delay above the deadline"),
        pytest.param(LOST_WITH_IT, 1, 10.0, PATIENT, 1.0, None, id="the engine died with it, perhaps of it"),
        pytest.param(LOST_WITHOUT_IT, 1, 10.0, POLICY, 1.0, 0.1, id="the engine died of something else"),
        pytest.param(UNSAID, 1, 10.0, PATIENT, 1.0, None, id="a server that does not say that it is safe"),
        pytest.param(TOO_LARGE_MESSAGE, 1, 10.0, PATIENT, 1.0, None, id="too large stays too large"),
        pytest.param(error(StatusCode.INVALID_ARGUMENT), 1, 10.0, PATIENT, 1.0, None, id="wrong stays wrong"),
        pytest.param(error(StatusCode.DEADLINE_EXCEEDED), 1, 10.0, PATIENT, 1.0, None, id="late is late"),
        pytest.param(error(StatusCode.INTERNAL), 1, 10.0, PATIENT, 1.0, None, id="a fault is not load"),
    ],
)
def test_decides_whether_and_when_to_try_again(failed_with, attempt, remaining_s, policy, jitter, wait_s) -> None:
    decided = decide(failed_with, attempt=attempt, remaining_s=remaining_s, policy=policy, jitter=jitter)

    assert decided == (None if wait_s is None else pytest.approx(wait_s))


def test_every_try_gets_what_is_left_of_the_one_deadline() -> None:
    now = [100.0]
    tries = Tries(POLICY, 2.0, clock=lambda: now[0], random=lambda: 1.0)

    assert tries.begin() == pytest.approx(2.0)
    now[0] += 0.5
    assert tries.wait_after(NOBODY) == pytest.approx(0.1)
    now[0] += 0.1
    assert tries.begin() == pytest.approx(1.4)


def test_the_last_error_is_the_one_that_is_raised() -> None:
    tries = Tries(NO_RETRIES, 2.0, clock=lambda: 0.0, random=lambda: 1.0)
    tries.begin()

    with pytest.raises(ServerUnavailableError) as raised:
        tries.wait_after(NOBODY)

    assert raised.value is NOBODY


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_call_without_time_is_rejected(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        Tries(POLICY, timeout_s, clock=lambda: 0.0, random=lambda: 1.0)


@pytest.mark.parametrize(
    "settings", [{"max_attempts": 0}, {"initial_backoff_s": 0.0}, {"initial_backoff_s": 3.0, "max_backoff_s": 2.0}]
)
def test_a_policy_out_of_range_is_rejected(settings) -> None:
    with pytest.raises(ValueError, match=r"max_attempts|initial_backoff_s"):
        RetryPolicy(**settings)
