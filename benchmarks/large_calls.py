"""Measures calls of 32 faces, and two streams with 32 faces a message, beside the bare engine, alternately.

The engine alone sets the limit: a thread for each core on the same sessions, fed with batches of 32 from memory.
The difference to it is the cost of serving. Prints a table and writes benchmarks/results/large_calls.json. Run
with `make bench`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bare_engine import bare_engine
from load.running import run_load
from loads import MODEL, stream, unary
from machine import machine_facts
from rounds import add_time_options, how_run, medians, other_work_share, quartiles, ratio, tell
from servers import copy_model, ferserve
from serving_tables import latency, number, short, spread, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from load.plan import Part

RESULTS = Path(__file__).resolve().parent / "results"
FACES = 32
ENGINE = f"bare engine, batches of {FACES}"
CALLS = unary(FACES, 4)
STREAMS = stream(FACES, 8, 2)
LOADS = {part.name: part for part in (CALLS, unary(FACES, 8), STREAMS)}


def measure(options: argparse.Namespace, work: Path) -> dict[str, list[dict[str, Any]]]:
    """Runs the engine and the loads alternately; gives the figures by load."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (ENGINE, *LOADS)}
    times = {"warm_s": options.warm_s, "measure_s": options.measure_s}
    with (
        bare_engine(FACES) as engine,
        ferserve(copy_model(MODEL, work / "models"), work / "log", options.server_flag) as server,
    ):

        def one(part: Part | None) -> dict[str, Any]:
            if part is None:
                return engine.run(**times)
            return run_load(server.address, server.pid, server.tag, (part,), **times)

        for turn in range(options.rounds):
            order = [(ENGINE, None), *LOADS.items()]
            for name, part in order[:: 1 if turn % 2 == 0 else -1]:
                figures = one(part)
                found[name].append(figures)
                tell(name, "ferserve" if part else "engine", figures)
    return found


def compare(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Computes medians by load, with ratios to the engine and to calls, taken round by round."""
    cpu, rate = "cpu_s_per_1000_faces", "faces_per_s"
    return {
        name: {
            **medians(runs),
            "cpu_ratio": ratio(runs, found[ENGINE], cpu),
            "cpu_ratio_quartiles": quartiles(runs, found[ENGINE], cpu),
            "throughput_to_calls": ratio(runs, found[CALLS.name], rate),
            "throughput_to_calls_quartiles": quartiles(runs, found[CALLS.name], rate),
        }
        for name, runs in found.items()
    }


def large_calls_table(document: Mapping[str, Any]) -> list[str]:
    """Returns the table of benchmarks/results/large_calls.json."""
    heads = ["load", "faces/s", "to the calls (quartiles)", "p50 / p95 / p99 ms", "CPU-s per 1,000 faces"]
    heads += ["to the engine (quartiles)"]
    rows = [
        [
            name,
            number(figures["faces_per_s"]),
            short(figures["throughput_to_calls"]) + spread(figures["throughput_to_calls_quartiles"]),
            latency(figures),
            short(figures["cpu_s_per_1000_faces"]),
            short(figures["cpu_ratio"]) + spread(figures["cpu_ratio_quartiles"]),
        ]
        for name, figures in document["loads"].items()
    ]
    return table(heads, rows)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_time_options(parser, rounds=6, measure_s=0.7, warm_s=0.3)
    parser.add_argument("--server-flag", action="append", default=[], help="flag of the server; repeat")
    parser.add_argument("--output", type=Path, default=RESULTS / "large_calls.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = measure(options, Path(work))
    document = {
        **machine_facts(),
        **how_run("large_calls.py", options),
        "other_work_share": other_work_share({"all": found}),
        "loads": compare(found),
    }
    print("\n".join(large_calls_table(document)))
    options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
