"""Measures the effect of version changes on callers: a real server, steady load from another process, 20 swaps.

Every swap publishes a version with different scores, so each answer's scores identify the version that computed
it. Latency counts from the time at which a call was due, at a fixed rate: a server that stops for a second delays
all the calls of that second, and all of them count. Prints a table and writes benchmarks/results/swaps.json. Run
with `make bench-lifecycle`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import OtherWork, machine_facts
from server_log import ServerLog, server_process
from swap_figures import Answer, Swap, swap_figures, swap_table
from versions import MODEL, MODEL_NAME, make_twin, publish

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).resolve().parent / "results"


def swap_once(log: ServerLog, repository: Path, folder: Path, version: int) -> Swap:
    """Publishes a version and waits until the one before it is unloaded."""
    published_s = publish(folder, repository, version)
    ready_s, _ = log.wait_for("version ready", servable=f"{MODEL_NAME}/{version}")
    unloaded_s, _ = log.wait_for("version unloaded", servable=f"{MODEL_NAME}/{version - 1}")
    return Swap(version, published_s, ready_s, unloaded_s)


@contextlib.contextmanager
def traffic_process(address: str, output: Path, rate: float) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the load until the block is left; what it saw is in `output` then."""
    script = Path(__file__).with_name("traffic.py")
    process = subprocess.Popen([sys.executable, str(script), address, str(output), "--rate", str(rate)])
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        if process.wait(120) != 0:
            raise RuntimeError(f"the load ended with exit code {process.returncode}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Runs server, load and swaps, and returns the figures."""
    repository, seen = work / "models", work / "seen.json"
    repository.mkdir()
    publish(MODEL, repository, 1)
    folders = (MODEL, make_twin(work / "twin"))
    with server_process(repository, work / "server.log", options.server_flag) as (log, address):
        log.wait_for("version ready", servable=f"{MODEL_NAME}/1")
        with traffic_process(address, seen, options.rate) as traffic:
            time.sleep(options.settle_s)
            swaps = []
            with OtherWork(log.process.pid, traffic.pid) as others:
                for version in range(2, options.swaps + 2):
                    time.sleep(options.gap_s)
                    swaps.append(swap_once(log, repository, folders[(version + 1) % 2], version))
                    print(f"swap {version - 1}: {swaps[-1].unloaded_s - swaps[-1].published_s:.2f} s", flush=True)
                time.sleep(options.gap_s)
                share = others.share()
    begun_s = swaps[0].published_s - options.gap_s  # what came before warmed connection and caches
    answers = [Answer(*each) for each in json.loads(seen.read_text())]
    figures = swap_figures([answer for answer in answers if answer.due_s >= begun_s], swaps)
    return {
        **machine_facts(),
        "command": " ".join(["benchmarks/swaps.py", *sys.argv[1:]]),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "other_work_share": round(share, 2),
        "single_faces_per_s": options.rate,
        **figures,
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=20, help="changes of version")
    parser.add_argument("--rate", type=float, default=40.0, help="single faces a second; others in proportion")
    parser.add_argument("--gap-s", type=float, default=4.0, help="seconds between swaps, which are the yardstick")
    parser.add_argument("--settle-s", type=float, default=8.0, help="seconds before the first one, not counted")
    parser.add_argument("--server-flag", action="append", default=[], help="a flag of the server; repeat")
    parser.add_argument("--output", type=Path, default=RESULTS / "swaps.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        document = measure(options, Path(work))
    for name in ("requests", "failed_requests", "failures", "mixed_version_requests", "requests_that_went_back"):
        print(f"{name:28} {document[name]}")
    print(f"{'other_work_share':28} {document['other_work_share']}")
    print("\n".join(swap_table(document)))
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
