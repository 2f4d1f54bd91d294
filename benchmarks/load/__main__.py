"""Runs a load as a process: reads a plan from stdin, sends, and writes its figures as JSON to stdout.

It reads the processor time of the server's processes itself, so that it covers exactly the measured seconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from typing import Any

import uvloop
from load.grpc_callers import call_stream, call_unary
from load.http_callers import call_http
from load.measurements import Measurements, load_figures, part_figures
from load.plan import Part, Plan
from load.process_tree import cpu_s, machine_ticks, memory_mib, processes_of
from load.rate_callers import call_at_rate


async def send(address: str, part: Part, measurements: Measurements) -> None:
    """Sends one part until cancelled."""
    if part.kind == "http":
        await call_http(address, part, measurements)
    elif part.kind == "stream":
        await call_stream(address, part, measurements)
    elif part.rate:
        await call_at_rate(address, part, measurements)
    else:
        await call_unary(address, part, measurements)


async def run(plan: Plan) -> dict[str, Any]:
    """Sends all parts side by side, and returns the figures of the seconds that count."""
    measurements = [Measurements() for _ in plan.parts]
    tasks = [
        asyncio.create_task(send(plan.address, part, each))
        for part, each in zip(plan.parts, measurements, strict=True)
    ]
    await asyncio.sleep(plan.warm_s)
    pids = processes_of(plan.server_pid, plan.server_tag)
    before = (time.perf_counter(), cpu_s(pids), time.process_time(), *machine_ticks())
    await asyncio.sleep(plan.measure_s)
    after = (time.perf_counter(), cpu_s(pids), time.process_time(), *machine_ticks())
    resident_mib, proportional_mib = memory_mib(pids)
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    broken = [repr(end) for end in ends if not isinstance(end, asyncio.CancelledError)]
    seconds, server_cpu_s, client_cpu_s, machine_s, used_s = (
        now - then for now, then in zip(after, before, strict=True)
    )
    parts = {
        part.name: part_figures(each, part.faces, before[0], after[0])
        for part, each in zip(plan.parts, measurements, strict=True)
    }
    other_s = max(0.0, used_s - server_cpu_s - client_cpu_s)
    return {
        **load_figures(parts, seconds, server_cpu_s),
        "client_cores": round(client_cpu_s / seconds, 3),
        "other_work_share": round(other_s / max(machine_s, 1e-9), 3),
        "server_processes": len(pids),
        "rss_mib": round(resident_mib),
        "pss_mib": round(proportional_mib),
        "parts": parts,
        **({"broken": broken} if broken else {}),
    }


def main() -> None:
    """Reads, sends and writes."""
    # A pause of the load would count as one of the server, and a full collection takes some 25 ms.
    gc.disable()
    figures = uvloop.run(run(Plan.from_json(sys.stdin.read())))
    sys.stdout.write(json.dumps(figures))
    sys.stdout.flush()
    os._exit(0)  # gRPC's threads may keep the interpreter from ending


if __name__ == "__main__":
    main()
