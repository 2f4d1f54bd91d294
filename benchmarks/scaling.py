"""Estimates the gain of several processes with a core each: simulated with pinned processes on few cores.

The model takes no time. Calls arrive at one process alone, and then all at a worker process, which is pinned to
one core and the primary process to the other. This gives the cost of a call in a lone process, and in each of the
two if it arrives at a worker process. A process is one event loop, so a core is its limit, and N processes carry
as much as the busiest of them allows, the primary process with its share of the connections. Prints a table and
writes benchmarks/results/scaling.json. Run with `make bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load.process_tree import cpu_s, processes_of
from load.running import run_load
from loads import MODEL, unary
from machine import machine_facts
from rounds import add_time_options, how_run
from servers import copy_model, null_ferserve
from serving_tables import number, table

from ferserve_server.workers.connection_passing import balanced_primary_share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from servers import RunningServer

RESULTS = Path(__file__).resolve().parent / "results"
CALLERS = 32
MEASURED = (1, 2)
"""Processes that are run: one core has room for one event loop, whatever the number."""

SIMULATED = (1, 2, 3, 4, 8)
MANY_CORES = 1000
"""More than there are processes: what is simulated."""


def primary_share(processes: int) -> float:
    """Returns the primary process's share of the connections, 0 to 1."""
    return 1.0 if processes == 1 else balanced_primary_share(processes, MANY_CORES)


def load_of_each(
    own_cpu_s: float, worker_cpu_s: float, primary_cpu_s: float, processes: int
) -> tuple[float, float]:
    """Computes a call's mean processor time in the primary and in each worker process, in seconds.

    Args:
        own_cpu_s: What a call that arrives at the primary process costs it.
        worker_cpu_s: What one costs the worker process that it comes in at.
        primary_cpu_s: What a call that arrives at a worker process costs the primary process.
        processes: The primary process and the worker processes.
    """
    share = primary_share(processes)
    worker_load_s = (1 - share) * worker_cpu_s / (processes - 1) if processes > 1 else 0.0
    return share * own_cpu_s + (1 - share) * primary_cpu_s, worker_load_s


def pin(server: RunningServer, primary_cores: set[int], worker_cores: set[int]) -> set[int]:
    """Pins the threads of the primary process, and of its worker process, to these cores; returns the latter."""
    workers = processes_of(server.pid, server.tag) - {server.pid}
    for pid in (server.pid, *workers):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), primary_cores if pid == server.pid else worker_cores)
    return workers


def measure(processes: int, options: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Measures a server with that many processes, all calls arriving at workers; returns the figures by round."""
    cores = sorted(os.sched_getaffinity(0))
    flags = ["--processes", str(processes), "--primary-share", "0", *options.server_flag]
    found = []
    with null_ferserve(copy_model(MODEL, work / "models"), work / f"{processes}.log", flags) as server:
        workers = pin(server, set(cores[:1]), set(cores[1:])) if processes > 1 else set()
        for _ in range(options.rounds):
            before = cpu_s({server.pid}), cpu_s(workers)
            run = run_load(
                server.address,
                server.pid,
                server.tag,
                (unary(1, CALLERS),),
                warm_s=options.warm_s,
                measure_s=options.measure_s,
            )
            primary_s, workers_s = cpu_s({server.pid}) - before[0], cpu_s(workers) - before[1]
            per_call_s = run["cpu_s_per_1000_faces"] / 1e3
            primary_cpu_s = per_call_s * primary_s / (primary_s + workers_s)
            found.append(
                {
                    "faces_per_s": run["faces_per_s"],
                    "primary_cpu_s": primary_cpu_s,
                    "worker_cpu_s": per_call_s - primary_cpu_s,
                    "other_work_share": run["other_work_share"],
                }
            )
    return found


def scaling(runs: Mapping[int, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Computes the medians, and the estimates for more cores."""

    def median(processes: int, name: str) -> float:
        return statistics.median(run[name] for run in runs[processes])

    alone, most = median(1, "faces_per_s"), max(runs)
    own_cpu_s = median(1, "primary_cpu_s")
    worker_cpu_s, primary_cpu_s = median(most, "worker_cpu_s"), median(most, "primary_cpu_s")
    loads = {count: load_of_each(own_cpu_s, worker_cpu_s, primary_cpu_s, count) for count in SIMULATED}
    simulated = {count: 1 / max(load) for count, load in loads.items()}
    return {
        "other_work_share": statistics.fmean(run["other_work_share"] for each in runs.values() for run in each),
        "one_process_per_s": alone,
        "one_process_cpu_s": own_cpu_s,
        "worker_cpu_s": worker_cpu_s,
        "primary_cpu_s": primary_cpu_s,
        "simulated_per_s": simulated,
    }


def scaling_table(document: Mapping[str, Any]) -> list[str]:
    """Returns the table of benchmarks/results/scaling.json."""
    own_cpu_s, worker_cpu_s, primary_cpu_s = (
        document[name] for name in ("one_process_cpu_s", "worker_cpu_s", "primary_cpu_s")
    )
    rows = [
        ["1, measured", "1", number(document["one_process_per_s"]), "-", _us(own_cpu_s), "-"],
        ["2, measured, all calls at the other", "0", "-", "-", _us(primary_cpu_s), _us(worker_cpu_s)],
    ]
    for name, per_s in document["simulated_per_s"].items():
        count = int(name)
        primary_load_s, worker_load_s = load_of_each(own_cpu_s, worker_cpu_s, primary_cpu_s, count)
        share = primary_share(count)
        rows.append(
            [
                f"{count}{', the primary is full' if count > 1 and not share else ''}",
                f"{share:.2g}",
                number(per_s),
                f"{per_s * own_cpu_s:.2f}",
                _us(primary_load_s),
                _us(worker_load_s) if count > 1 else "-",
            ]
        )
    heads = [
        "processes",
        "primary's share",
        "calls/s",
        "to one process",
        "µs of a call: primary",
        "each other process",
    ]
    return table(heads, rows)


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}"


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_time_options(parser, rounds=2, measure_s=1.5)
    parser.add_argument("--server-flag", action="append", default=[], help="a flag of ferserve; repeat")
    parser.add_argument("--output", type=Path, default=RESULTS / "scaling.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        figures = scaling({count: measure(count, options, Path(work)) for count in MEASURED})
    document = {**machine_facts(), **how_run("scaling.py", options), **figures}
    print("\n".join(scaling_table(document)))
    options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
