"""Compares the cost of two ways into TensorFlow: the plain signature call, and the sessions that the server runs.

Faces a second by batch size: the signature call by one caller, which may use every core (with two callers oneDNN
fails in TensorFlow 2.21); sessions on the frozen graph by one caller and by one for each core, as served, with one
intra-op thread each; in float32 and in the precision that the server picks here. All in one process, alternately.
Prints a table and writes benchmarks/results/engine.json. Run with `make bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from machine import OtherWork, machine_facts

from ferserve_server.backends.tensorflow import SavedModelLoader
from ferserve_server.domain.servable import Precision, ServableId
from ferserve_server.models.golden import read_golden
from ferserve_server.models.manifest import read_manifest
from ferserve_server.models.precision import settle_precision
from ferserve_server.models.validation import ValidationLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "model_repo" / "fer-nano" / "4"
BATCH_SIZES = (1, 8, 32, 128)
ROUNDS = 5
CALLERS = len(os.sched_getaffinity(0))
SIGNATURE = "signature, 1 caller"


def faces_per_s(
    call: Callable[[npt.NDArray[np.uint8]], object], faces: npt.NDArray[np.uint8], callers: int, round_s: float
) -> float:
    """Measures the faces a second of `callers` threads together."""

    def work(until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            call(faces)
            count += len(faces)
        return count

    started = time.perf_counter()
    with ThreadPoolExecutor(callers) as threads:
        done = sum(threads.map(work, [started + round_s] * callers))
    return done / (time.perf_counter() - started)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description="Faces a second by way into TensorFlow and batch size.")
    parser.add_argument("--round-s", type=float, default=0.3, help="seconds of each of the rounds")
    parser.add_argument("--signature-threads", type=int, default=0, help="its intra-op threads; 0: one per core")
    parser.add_argument("--note", default="", help="what ran beside it, for the results")
    options = parser.parse_args()

    import tensorflow as tf  # noqa: PLC0415 - takes seconds, and --help does not need it

    tf.config.threading.set_intra_op_parallelism_threads(options.signature_threads)
    manifest = read_manifest(MODEL)
    loader = SavedModelLoader(executor_count=CALLERS, intra_op_thread_count=1, gpu_memory_limit_mib=0)
    exact = loader.load(ServableId("fer-nano", 2), MODEL, manifest.description)
    limits = ValidationLimits(BATCH_SIZES, golden_tolerance=1e-3, precision=None)
    # A second one, since the server closes the one that it does not pick.
    beside = loader.load(ServableId("fer-nano", 2), MODEL, manifest.description)
    candidate = settle_precision(beside, read_golden(MODEL, manifest.description.input), limits)
    picked = candidate.servable
    for servable in (exact, picked):
        servable.warm_executors(BATCH_SIZES, CALLERS)
    signature = tf.saved_model.load(str(MODEL)).signatures["serving_default"]

    def plain(faces: npt.NDArray[np.uint8]) -> object:
        return signature(faces=tf.constant(faces))["probabilities"].numpy()

    ways = {
        SIGNATURE: (plain, 1),
        "frozen session, float32, 1 caller": (exact.predict, 1),
        f"as served, float32, {CALLERS} callers": (exact.predict, CALLERS),
    }
    if picked.precision is Precision.BFLOAT16:
        ways["frozen session, bfloat16, 1 caller"] = (picked.predict, 1)
        ways[f"as served, auto = bfloat16, {CALLERS} callers"] = (picked.predict, CALLERS)
    with OtherWork() as others:
        results = _measure(ways, options.round_s)
        share = others.share()

    print(f"{'faces/s at batch (x the signature call)':42}" + "".join(f"{size:>16}" for size in BATCH_SIZES))
    ratios = {
        name: {size: by_size[size] / results[SIGNATURE][size] for size in BATCH_SIZES}
        for name, by_size in results.items()
    }
    for name, by_size in results.items():
        cells = (f"{by_size[size]:9.0f} ({ratios[name][size]:4.2f})" for size in BATCH_SIZES)
        print(f"{name:42}" + "".join(cells))
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    document = {
        **machine_facts(),
        "other_work_share": round(share, 3),
        "note": options.note,
        "signature_threads": options.signature_threads or CALLERS,
        "bfloat16_speedup_at_load": candidate.bfloat16_speedup,
        "faces_per_s": results,
        "ratio_to_signature": ratios,
    }
    (folder / "engine.json").write_text(json.dumps(document, indent=2) + "\n")


def _measure(
    ways: dict[str, tuple[Callable[[npt.NDArray[np.uint8]], object], int]], round_s: float
) -> dict[str, dict[int, float]]:
    """Measures median faces a second by way and batch size."""
    rng = np.random.default_rng(0)
    results: dict[str, dict[int, float]] = {name: {} for name in ways}
    for size in BATCH_SIZES:
        faces = rng.integers(0, 256, (size, 48, 48, 1), dtype=np.uint8)
        rounds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, (call, callers) in ways.items():
                rounds[name].append(faces_per_s(call, faces, callers, round_s))
        for name, values in rounds.items():
            results[name][size] = statistics.median(values)
    return results


if __name__ == "__main__":
    main()
