"""Measures the growth of memory while versions change: one server in this process, fifty versions in sequence.

Each cycle publishes a version, waits until it answers and the previous one is unloaded, sends a few faces, removes
the old folder and reads the resident memory, before and after the allocator has released its free memory. Prints a
table and writes benchmarks/results/load_cycles.json. Run with `make bench-lifecycle`.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from cycle_figures import cycle_figures, cycle_table
from machine import OtherWork, machine_facts
from versions import MODEL, MODEL_NAME, publish, telling_faces, withdraw

from ferserve_client import AsyncEmotionClient
from ferserve_server.app.models import default_loader
from ferserve_server.app.primary_main import running_server
from ferserve_server.config.reading import load_settings

RESULTS = Path(__file__).resolve().parent / "results"
PATIENCE_S = 300.0


def resident_mib() -> float:
    """Measures resident memory of this process in MiB: `Rss` of proc(5), /proc/PID/smaps_rollup."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("smaps_rollup has no line Rss")


def trim() -> None:
    """Collects garbage and makes glibc release free memory: malloc_trim(3)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


async def wait_until_only(client: AsyncEmotionClient, version: int) -> None:
    """Waits until a version is active and every other one is unloaded."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            model = await client.model(MODEL_NAME, timeout_s=PATIENCE_S)
            states = {each.version: each.state for each in model.versions}
            if states.pop(version, None) == "ready" and set(states.values()) <= {"unloaded"}:
                return
            await asyncio.sleep(0.1)


async def cycles(count: int, repository: Path) -> list[dict[str, float]]:
    """Runs the cycles, and returns the readings after each."""
    publish(MODEL, repository, 1)
    flags = ["--listen=127.0.0.1:0", "--http-listen=off", "--metrics-listen=off", "--repository-poll-s=0.2"]
    settings = load_settings([f"--model-repo={repository}", f"--default-model={MODEL_NAME}", *flags])
    seen = []
    async with (
        running_server(settings, default_loader(settings)) as server,
        AsyncEmotionClient(f"127.0.0.1:{server.port}") as client,
    ):
        await wait_until_only(client, 1)
        for version in range(2, count + 2):
            started_s = time.monotonic()
            publish(MODEL, repository, version)
            await wait_until_only(client, version)
            for face_count in (1, 8, 32):
                await client.classify(telling_faces(face_count), timeout_s=PATIENCE_S)
            withdraw(repository, version - 1)
            taken_s = time.monotonic() - started_s
            as_is_mib = resident_mib()
            trim()
            seen.append(
                {
                    "as_is_mib": round(as_is_mib, 2),
                    "trimmed_mib": round(resident_mib(), 2),
                    "python_objects": len(gc.get_objects()),
                    "cycle_s": round(taken_s, 2),
                }
            )
            print(f"cycle {version - 1}: {seen[-1]}", flush=True)
    return seen


def main() -> None:
    """Measures, prints and writes; exits with 1 if memory grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=50, help="versions to load and unload, 4 or more")
    parser.add_argument("--output", type=Path, default=RESULTS / "load_cycles.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, OtherWork() as others:
        seen = uvloop.run(cycles(options.cycles, Path(folder)))
        share = others.share()
    figures = cycle_figures(seen)
    print("\n".join(cycle_table(figures)))
    document = {
        **machine_facts(),
        "command": " ".join(["benchmarks/load_cycles.py", *sys.argv[1:]]),
        "other_work_share": round(share, 2),
        **figures,
        "by_cycle": seen,
    }
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.flush()
    # As the server's own command: TensorFlow's and gRPC's native threads can abort the interpreter's teardown.
    os._exit(0 if figures["flat"] else 1)


if __name__ == "__main__":
    main()
