"""Tests that a stuck event loop is seen by the probe on the metrics port (faults, item 26)."""

from __future__ import annotations

import asyncio

from ferserve_server.runtime.pulse import Pulse
from support.fake_clock import FakeClock


async def test_a_loop_that_does_not_run_is_not_alive() -> None:
    clock = FakeClock()
    pulse = Pulse(clock.now)
    assert pulse.is_alive()
    clock.advance(16)
    assert not pulse.is_alive()
    beating = asyncio.ensure_future(pulse.beat())
    await asyncio.sleep(0)
    assert pulse.is_alive()
    beating.cancel()
