"""Restarts two servers alternately behind round_robin, under load on all ports, and plain grpc.aio servers."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from loads import ROOT

from chaos.callers import Callers, classify, http_post, open_inference, own_client
from chaos.targets import Target, ferserve, plain_grpc

if TYPE_CHECKING:
    from pathlib import Path

MAX_RESTARTS: Final = 100
SETTLED_S: Final = 12.0
"""Time between a server's readiness and the next stop.

gRPC's channels wait longer before each try to connect while a server is away. With too short a time, both
servers are away for a channel, and its calls fail.
"""


def run(seconds: float, work: Path) -> dict[str, Any]:
    """Gives four fifths of the time to ferserve, which starts more slowly, and the rest to plain servers."""
    picture = (ROOT / "tests" / "media" / "astronaut.jpg").read_bytes()
    with ExitStack() as stack:
        targets = [stack.enter_context(ferserve(work / f"{number}.log")) for number in range(2)]
        grpc, web = [each.address for each in targets], [each.http for each in targets]
        callers = Callers(
            {
                "gRPC round_robin": classify(grpc),
                "gRPC round_robin with health checks": classify(grpc, health_checks=True),
                "ferserve_client": own_client(grpc),
                "Open Inference round_robin": open_inference(grpc),
                "HTTP pictures": http_post(web, "/v1/analyze", picture),
                "metrics": http_post([each.metrics for each in targets], "/metrics", None),
            }
        )
        own = _roll(targets, stack.enter_context(callers), 0.8 * seconds, MAX_RESTARTS)
    with ExitStack() as stack:
        targets = [stack.enter_context(plain_grpc(work / f"plain-{number}.log")) for number in range(2)]
        callers = Callers({"gRPC round_robin": classify([each.address for each in targets])})
        most = own["restarts"] or 1
        plain = _roll(targets, stack.enter_context(callers), 0.2 * seconds, most)
    return {"ferserve": own, "grpc.aio": plain}


def _roll(targets: list[Target], callers: Callers, seconds: float, most: int) -> dict[str, Any]:
    ends_s = time.monotonic() + seconds
    ready_s: list[float] = []
    time.sleep(SETTLED_S)
    while len(ready_s) < most and (time.monotonic() < ends_s or len(ready_s) < 2):
        ready_s.append(targets[len(ready_s) % len(targets)].restart())
        time.sleep(SETTLED_S)
    codes = [code for target in targets for code in target.exit_codes]
    return {
        "restarts": len(ready_s),
        "start_s": round(statistics.median(ready_s), 2),
        "exit_codes_not_0": sum(code != 0 for code in codes),
        "calls": callers.summary(),
    }
