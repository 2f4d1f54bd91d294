"""Measures the engine alone, as the server runs it: the same sessions and precision, fed from memory, no server.

The process loads the bundled light net, prints READY, and then answers each line of stdin, WARM_S MEASURE_S, with
a line of JSON: its throughput in the measured seconds. See `large_calls`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any

from load.measurements import load_figures
from load.running import with_benchmarks_on_path
from loads import MODEL, golden_faces
from machine import OtherWork

from ferserve_server.backends.tensorflow import SavedModelLoader
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.golden import read_golden
from ferserve_server.models.manifest import read_manifest
from ferserve_server.models.precision import settle_precision
from ferserve_server.models.validation import ValidationLimits
from ferserve_server.telemetry.logging import set_up_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferserve_server.domain.ports import Servable

READY = "READY"


class BareEngine:
    """Controls the process that feeds the engine."""

    def __init__(self, process: Popen[str]) -> None:
        """Takes a process that has printed READY."""
        self._process = process
        self.pid = process.pid

    def run(self, *, warm_s: float, measure_s: float) -> dict[str, Any]:
        """Feeds the engine for this many seconds; figures are a load's without latencies; see `load.__main__`.

        Raises:
            RuntimeError: The process has ended.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the engine's process has no pipes")
        with contextlib.suppress(BrokenPipeError):  # it has ended; so says the next line
            self._process.stdin.write(f"{warm_s} {measure_s}\n")
            self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError(f"the engine's process ended with exit code {self._process.wait()}")
        figures: dict[str, Any] = json.loads(answer)
        return figures


@contextlib.contextmanager
def bare_engine(face_count: int) -> Iterator[BareEngine]:
    """Runs the process until the block is left.

    Args:
        face_count: Faces of each batch.

    Raises:
        RuntimeError: It does not come up.
    """
    command = [sys.executable, "-m", "bare_engine", str(face_count)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=with_benchmarks_on_path()) as process:
        try:
            if process.stdout is None or (said := process.stdout.readline().strip()) != READY:
                raise RuntimeError(f"the engine's process did not come up: {said!r}")
            yield BareEngine(process)
        finally:
            process.kill()


def loaded(face_count: int, executor_count: int) -> Servable:
    """Returns the bundled light net in the precision that the server picks on this machine, warm."""
    manifest = read_manifest(MODEL)
    loader = SavedModelLoader(executor_count=executor_count, intra_op_thread_count=1, gpu_memory_limit_mib=0)
    exact = loader.load(ServableId(MODEL.parent.name, int(MODEL.name)), MODEL, manifest.description)
    limits = ValidationLimits((face_count,), golden_tolerance=1e-3, precision=None)
    picked = settle_precision(exact, read_golden(MODEL, manifest.description.input), limits).servable
    picked.warm_executors((face_count,), executor_count)
    return picked


def feed(servable: Servable, face_count: int, callers: int, warm_s: float, measure_s: float) -> dict[str, Any]:
    """Feeds the engine from this many threads, and returns its throughput in the measured seconds."""
    faces = golden_faces(face_count)
    counts = [0] * callers
    over = threading.Event()

    def work(number: int) -> None:
        while not over.is_set():
            servable.predict(faces)
            counts[number] += face_count

    threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    time.sleep(warm_s)
    before = time.perf_counter(), time.process_time(), sum(counts)
    with OtherWork() as others:
        time.sleep(measure_s)
        after = time.perf_counter(), time.process_time(), sum(counts)
        other_work_share = round(others.share(), 3)
    over.set()
    for thread in threads:
        thread.join()
    seconds, cpu_s, done = (now - then for now, then in zip(after, before, strict=True))
    part = {"faces_per_s": round(done / seconds, 1), "errors": {}}
    figures = load_figures({"engine": part}, seconds, cpu_s)
    return {**figures, "other_work_share": other_work_share, "parts": {"engine": part}}


def main() -> None:
    """Loads the net, and feeds it on each command."""
    face_count = int(sys.argv[1])
    callers = len(os.sched_getaffinity(0))
    set_up_logging("warning", "console")
    servable = loaded(face_count, callers)
    print(READY, flush=True)
    for line in sys.stdin:
        warm_s, measure_s = (float(each) for each in line.split())
        print(json.dumps(feed(servable, face_count, callers, warm_s, measure_s)), flush=True)


if __name__ == "__main__":
    main()
