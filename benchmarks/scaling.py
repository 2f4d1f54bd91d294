"""What front processes would gain with a core each: simulated with pinned processes, where there are few cores.

The model takes no time. The owner of the models is held on one core, the front processes on the others, and the
processor time of a call is taken apart: what a front process takes for it, and what the owner does. A process is
one event loop, so a core is its limit, and N of them and an owner with a core each carry what the first of them to
be busy allows. Prints a table and writes benchmarks/results/scaling.json. Run with `make bench`.
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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from servers import RunningServer

RESULTS = Path(__file__).resolve().parent / "results"
CALLERS = 32
MEASURED = (1, 2)
"""Front processes that are run: one core has room for one event loop, whatever the number."""

SIMULATED = (1, 2, 4, 8, 16)


def carried_per_s(front_cpu_s: float, owner_cpu_s: float, front_count: int) -> float:
    """Calls a second of front processes and an owner with a core each.

    Args:
        front_cpu_s: Processor time that a front process takes for a call, in seconds.
        owner_cpu_s: That the owner takes for it.
        front_count: Front processes.
    """
    return min(front_count / front_cpu_s, 1 / owner_cpu_s)


def pin(server: RunningServer, owner_cores: set[int], front_cores: set[int]) -> set[int]:
    """Holds every thread of the owner, and of its front processes, on these cores; returns the latter."""
    fronts = processes_of(server.pid, server.tag) - {server.pid}
    for pid in (server.pid, *fronts):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), owner_cores if pid == server.pid else front_cores)
    return fronts


def measure(processes: int, options: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Runs the server with so many front processes, or with none for 1, and returns the figures of each round."""
    cores = sorted(os.sched_getaffinity(0))
    flags = ["--processes", str(processes), *options.server_flag]
    found = []
    with null_ferserve(copy_model(MODEL, work / "models"), work / f"{processes}.log", flags) as server:
        fronts = pin(server, set(cores[:1]), set(cores[1:])) if processes > 1 else set()
        for _ in range(options.rounds):
            before = cpu_s({server.pid}), cpu_s(fronts)
            run = run_load(
                server.address,
                server.pid,
                server.tag,
                (unary(1, CALLERS),),
                warm_s=options.warm_s,
                measure_s=options.measure_s,
            )
            owner_s, fronts_s = cpu_s({server.pid}) - before[0], cpu_s(fronts) - before[1]
            per_call_s = run["cpu_s_per_1000_faces"] / 1e3
            owner_cpu_s = per_call_s * owner_s / (owner_s + fronts_s)
            found.append(
                {
                    "faces_per_s": run["faces_per_s"],
                    "owner_cpu_s": owner_cpu_s,
                    "front_cpu_s": per_call_s - owner_cpu_s,
                    "other_work_share": run["other_work_share"],
                }
            )
    return found


def scaling(runs: Mapping[int, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """The medians, and what follows for more cores."""

    def median(processes: int, name: str) -> float:
        return statistics.median(run[name] for run in runs[processes])

    alone, most = median(1, "faces_per_s"), max(runs)
    front_cpu_s, owner_cpu_s = median(most, "front_cpu_s"), median(most, "owner_cpu_s")
    simulated = {count: carried_per_s(front_cpu_s, owner_cpu_s, count) for count in SIMULATED}
    return {
        "other_work_share": statistics.fmean(run["other_work_share"] for each in runs.values() for run in each),
        "one_process_per_s": alone,
        "one_process_cpu_s": median(1, "owner_cpu_s"),
        "front_cpu_s": front_cpu_s,
        "owner_cpu_s": owner_cpu_s,
        "simulated_per_s": simulated,
    }


def scaling_table(document: Mapping[str, Any]) -> list[str]:
    """The table of benchmarks/results/scaling.json."""
    front_us, owner_us = document["front_cpu_s"] * 1e6, document["owner_cpu_s"] * 1e6
    alone = document["one_process_per_s"]
    rows = [["1, measured", "1", number(alone), "1.00", f"{document['one_process_cpu_s'] * 1e6:.0f}"]]
    for count, per_s in document["simulated_per_s"].items():
        owner_is_full = int(count) * document["owner_cpu_s"] >= document["front_cpu_s"]
        rows.append(
            [
                f"1 + {count}{', the owner is full' if owner_is_full else ''}",
                str(int(count) + 1),
                number(per_s),
                f"{per_s / alone:.2f}",
                f"{front_us:.0f} + {owner_us:.0f}",
            ]
        )
    heads = ["owner + front processes", "cores", "calls/s", "to one process", "µs of a call: front + owner"]
    return table(heads, rows)


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
