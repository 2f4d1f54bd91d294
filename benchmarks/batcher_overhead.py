"""Measures the batcher's cost for a single caller: the same face through it, and straight into the model.

Both run in one process, alternately, so that changes of the machine's pace affect both. The model on a thread is
measured between them; any server that keeps its event loop free pays that cost. Prints a table and writes
benchmarks/results/batcher_overhead.json. Run with `make bench`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import uvloop
from machine import OtherWork, machine_facts

from ferserve_server.backends.tensorflow import SavedModelLoader
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.manifest import read_manifest
from ferserve_server.models.validation import warm
from ferserve_server.runtime.clock import MonotonicClock
from ferserve_server.scheduler.batcher import Batcher
from ferserve_server.scheduler.settings import BatcherSettings
from ferserve_server.telemetry.recorder import PrometheusRecorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "model_repo" / "fer-nano" / "4"
ROUNDS = 80
CALLS_PER_ROUND = 50


async def measure() -> dict[str, float]:
    """Measures medians of single-face calls, in milliseconds."""
    manifest = read_manifest(MODEL)
    loader = SavedModelLoader(executor_count=0, intra_op_thread_count=1, gpu_memory_limit_mib=0)
    servable = loader.load(ServableId("fer-nano", 2), MODEL, manifest.description)
    settings = BatcherSettings()
    warm(servable, settings.bucket_sizes)
    servable.warm_executors(settings.bucket_sizes, servable.executor_count)
    observer = PrometheusRecorder()
    observer.engine_started(servable.id, servable.description.labels, servable.precision)
    batcher = Batcher(servable, settings, clock=MonotonicClock(), observer=observer)
    face = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 1), dtype=np.uint8)

    async def direct() -> None:
        servable.predict(face)

    async def on_a_thread() -> None:
        await asyncio.get_running_loop().run_in_executor(None, servable.predict, face)

    async def batched() -> None:
        await batcher.score(face)

    ways = {"direct": direct, "on_a_thread": on_a_thread, "batched": batched}
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            rounds[name].append(await median_ms(call))
    await batcher.drain()
    await batcher.close()
    # Round by round, so that a machine that changes its pace changes both sides of each difference.
    overhead = [ours - bare for ours, bare in zip(rounds["batched"], rounds["direct"], strict=True)]
    figures = {f"{name}_ms": statistics.median(values) for name, values in rounds.items()}
    return figures | {
        "batcher_overhead_ms": statistics.median(overhead),
        "batcher_overhead_quartile_1_ms": statistics.quantiles(overhead)[0],
        "batcher_overhead_quartile_3_ms": statistics.quantiles(overhead)[2],
    }


async def median_ms(call: Callable[[], Awaitable[None]]) -> float:
    """Returns the median of a round of calls, in milliseconds."""
    taken_ms = []
    for _ in range(CALLS_PER_ROUND):
        started = time.perf_counter()
        await call()
        taken_ms.append((time.perf_counter() - started) * 1e3)
    return statistics.median(taken_ms)


def main() -> None:
    """Measures, prints and writes."""
    with OtherWork() as others:
        figures = uvloop.run(measure())  # the server's own event loop
        share = others.share()
    for name, value in figures.items():
        print(f"{name:32} {value:8.3f}")
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    document = {
        **machine_facts(),
        "other_work_share": round(share, 3),
        **figures,
    }
    (results / "batcher_overhead.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
