"""What the way into TensorFlow costs: the plain signature call against the frozen graph that the server runs.

Faces a second by batch size, by one caller, and by two callers with one intra-op thread each, as served. The
signature has one caller only: with two, oneDNN fails in TensorFlow 2.21. All in one process, taking turns. Prints
a table and writes benchmarks/results/engine.json. Run with `make bench`.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.backends.saved_model import SavedModelLoader
from ferserve_server.domain.servable import ServableId
from ferserve_server.repository.gate import warm
from ferserve_server.repository.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "model_repo" / "fer-nano" / "1"
BATCH_SIZES = (1, 8, 32, 128)
ROUNDS = 7
ROUND_S = 0.3


def faces_per_s(
    call: Callable[[npt.NDArray[np.uint8]], object], faces: npt.NDArray[np.uint8], callers: int
) -> float:
    """Faces a second that `callers` threads get through together."""

    def work(until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            call(faces)
            count += len(faces)
        return count

    started = time.perf_counter()
    with ThreadPoolExecutor(callers) as threads:
        done = sum(threads.map(work, [started + ROUND_S] * callers))
    return done / (time.perf_counter() - started)


def main() -> None:
    """Measures, prints and writes."""
    manifest = read_manifest(MODEL)
    loader = SavedModelLoader(executor_count=2, intra_op_thread_count=1, gpu_memory_limit_mib=0)
    servable = loader.load(ServableId("fer-nano", 1), MODEL, manifest.description)
    warm(servable, BATCH_SIZES)
    import tensorflow as tf  # noqa: PLC0415 - the loader has set its environment

    signature = tf.saved_model.load(str(MODEL)).signatures["serving_default"]

    def plain(faces: npt.NDArray[np.uint8]) -> object:
        return signature(faces=tf.constant(faces))["probabilities"].numpy()

    ways = {
        "signature, 1 caller": (plain, 1),
        "frozen session, 1 caller": (servable.predict, 1),
        "frozen session, 2 callers (as served)": (servable.predict, 2),
    }
    rng = np.random.default_rng(0)
    results: dict[str, dict[int, float]] = {name: {} for name in ways}
    for size in BATCH_SIZES:
        faces = rng.integers(0, 256, (size, 48, 48, 1), dtype=np.uint8)
        rounds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, (call, callers) in ways.items():
                rounds[name].append(faces_per_s(call, faces, callers))
        for name, values in rounds.items():
            results[name][size] = statistics.median(values)

    print(f"{'faces/s at batch':38}" + "".join(f"{size:>9}" for size in BATCH_SIZES))
    for name, by_size in results.items():
        print(f"{name:38}" + "".join(f"{by_size[size]:9.0f}" for size in BATCH_SIZES))
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    document = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "faces_per_s": results,
    }
    (folder / "engine.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
