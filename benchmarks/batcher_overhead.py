"""What the batcher costs one caller alone: the same face through it, and straight into the model.

Both in one process, taking turns, so that the machine's moods hit both. Prints a table and writes
benchmarks/results/batcher_overhead.json. Run with `make bench`.
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from ferserve_server.backends.saved_model import SavedModelLoader
from ferserve_server.batching.batcher import Batcher
from ferserve_server.batching.settings import BatcherSettings
from ferserve_server.clock import MonotonicClock
from ferserve_server.domain.servable import ServableId
from ferserve_server.observability.metrics import Metrics
from ferserve_server.observability.observers import InferenceMetrics
from ferserve_server.repository.gate import warm
from ferserve_server.repository.manifest import read_manifest

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "model_repo" / "fer-nano" / "1"
ROUNDS = 40
CALLS_PER_ROUND = 100


async def measure() -> dict[str, float]:
    """Medians of single-face calls, in milliseconds."""
    manifest = read_manifest(MODEL)
    loader = SavedModelLoader(executor_count=0, intra_op_thread_count=1, gpu_memory_limit_mib=0)
    servable = loader.load(ServableId("fer-nano", 1), MODEL, manifest.description)
    settings = BatcherSettings()
    warm(servable, settings.bucket_sizes)
    observer = InferenceMetrics(Metrics())
    observer.engine_started(servable.id, servable.description.labels)
    batcher = Batcher(servable, settings, clock=MonotonicClock(), observer=observer)
    face = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 1), dtype=np.uint8)

    direct_ms: list[float] = []
    batched_ms: list[float] = []
    for _ in range(ROUNDS):
        for _ in range(CALLS_PER_ROUND):
            started = time.perf_counter()
            servable.predict(face)
            direct_ms.append((time.perf_counter() - started) * 1e3)
        for _ in range(CALLS_PER_ROUND):
            started = time.perf_counter()
            await batcher.score(face)
            batched_ms.append((time.perf_counter() - started) * 1e3)
    await batcher.drain()
    await batcher.close()
    direct, batched = statistics.median(direct_ms), statistics.median(batched_ms)
    return {
        "direct_median_ms": direct,
        "batched_median_ms": batched,
        "overhead_median_ms": batched - direct,
        "direct_p99_ms": float(np.percentile(direct_ms, 99)),
        "batched_p99_ms": float(np.percentile(batched_ms, 99)),
    }


def main() -> None:
    """Measures, prints and writes."""
    figures = asyncio.run(measure())
    for name, value in figures.items():
        print(f"{name:22} {value:8.3f}")
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    document = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **figures,
    }
    (results / "batcher_overhead.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
