"""Tests that health follows the model and the drain."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2

from ferserve_server.services.health import EMOTION_SERVICE, MODEL_SERVICE, WHOLE_SERVER, HealthReporter

SERVICES = (WHOLE_SERVER, EMOTION_SERVICE, MODEL_SERVICE)
NOTHING = [False, False, False]


async def _serving(reporter: HealthReporter) -> list[bool]:
    answers = [
        await reporter.servicer.Check(health_pb2.HealthCheckRequest(service=service), None) for service in SERVICES
    ]
    return [answer.status == health_pb2.HealthCheckResponse.SERVING for answer in answers]


@pytest.mark.parametrize("before", [None, True, False])
async def test_with_a_model_everything_serves(before: bool | None) -> None:
    reporter = HealthReporter()
    if before is not None:
        await reporter.report(ready=before)
    await reporter.report(ready=True)
    assert await _serving(reporter) == [True, True, True]


@pytest.mark.parametrize("before", [None, True, False])
async def test_without_a_model_only_the_telling_about_models_serves(before: bool | None) -> None:
    reporter = HealthReporter()
    if before is not None:
        await reporter.report(ready=before)
    await reporter.report(ready=False)
    assert await _serving(reporter) == [False, False, True]


async def test_a_drain_is_final() -> None:
    reporter = HealthReporter()
    await reporter.report(ready=True)
    await reporter.drain()
    assert await _serving(reporter) == NOTHING
    await reporter.report(ready=True)
    assert await _serving(reporter) == NOTHING
