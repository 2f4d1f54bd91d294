"""Measures calls at fixed rates of 1, 2, 5 and 10 times the peak, independent of the answers.

Two engines: one whose batches take a set time without the processor, as a GPU's do, so that the calls take nothing
from it; and the largest bundled net, which shares the cores with the load and with the rejections, measured with
both servers. Every call has a deadline. The peak is measured before and after each round, and the round is
compared with their mean, so that a change of the machine's pace affects both. Prints a table and writes
benchmarks/results/overload.json. Run with `make bench`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load.running import run_load
from loads import MODEL, ROOT, unary
from machine import machine_facts
from rounds import add_time_options
from servers import RunningServer, copy_model, ferserve, null_ferserve
from serving_tables import overload_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from load.plan import Part

RESULTS = Path(__file__).resolve().parent / "results"
TIMES = (1.0, 2.0, 5.0, 10.0)
BATCH_MS = 40.0
BATCH_FACES = 32
HEAVY = ROOT / "model_repo" / "fer-base" / "3"


def step_figures(run: dict[str, Any], times_peak: float, peak_faces_per_s: float, faces: int) -> dict[str, Any]:
    """Computes the figures of one rate from those of its load. Pure."""
    (part,) = run["parts"].values()
    rejected_per_s = sum(part["errors"].values()) / run["measured_s"]
    return {
        "times_peak": times_peak,
        "sent_faces_per_s": round(part["faces_per_s"] + rejected_per_s * faces, 1),
        "faces_per_s": part["faces_per_s"],
        "of_peak": round(part["faces_per_s"] / peak_faces_per_s, 3),
        **{name: part.get(name) for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")},
        "rejected_per_s": round(rejected_per_s, 1),
        "errors": part["errors"],
        "rejected": part["rejected"],
        "client_late_p99_ms": part["late_p99_ms"],
        "server_cores": run["server_cores"],
        "client_cores": run["client_cores"],
        "other_work_share": run["other_work_share"],
    }


def median_step(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the medians of one rate's figures over the rounds; errors are added up. Pure.

    Args:
        steps: Of `step_figures`, one or more.
    """
    found: dict[str, Any] = {}
    for name, first in steps[0].items():
        values = [step[name] for step in steps if step[name] is not None]
        if name == "errors":
            found[name] = dict(sum((Counter(errors) for errors in values), Counter()))
        elif isinstance(first, dict):  # of the rounds in which any call was rejected
            found[name] = median_step(known) if (known := [each for each in values if each]) else {}
        else:
            found[name] = round(statistics.median(values), 3) if values else None
    return found


def beyond_peak(server: RunningServer, part: Part, options: argparse.Namespace) -> dict[str, Any]:
    """Measures the peak with callers that wait for their answers, sends multiples of it, and so on alternately."""

    def send(load: Part) -> dict[str, Any]:
        found = run_load(
            server.address, server.pid, server.tag, (load,), warm_s=options.warm_s, measure_s=options.measure_s
        )
        return found | {"measured_s": options.measure_s}

    def measured_peak() -> float:
        found: float = send(replace(part, callers=options.callers, timeout_s=60.0))["faces_per_s"]
        return found

    peaks = [measured_peak()]
    steps: dict[float, list[dict[str, Any]]] = {times: [] for times in TIMES}
    for _ in range(options.rounds):
        runs = {
            times: send(replace(part, rate=times * peaks[-1] / part.faces, timeout_s=options.deadline_s))
            for times in TIMES
        }
        peaks.append(measured_peak())
        peak = statistics.fmean(peaks[-2:])
        for times, run in runs.items():
            steps[times].append(step_figures(run, times, peak, part.faces))
            print(f"{times:4g} x: {steps[times][-1]}", flush=True)
    medians = [median_step(found) for found in steps.values()]
    return {"faces_per_call": part.faces, "peak_faces_per_s": statistics.median(peaks), "steps": medians}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_time_options(parser, rounds=2, measure_s=1.5, warm_s=1.2)
    parser.add_argument("--deadline-s", type=float, default=1.0, help="deadline of each call beyond the peak")
    parser.add_argument("--callers", type=int, default=16, help="callers that measure the peak")
    parser.add_argument("--server-flag", action="append", default=[], help="a flag of ferserve; repeat")
    parser.add_argument("--only", default="", help="measure the engines with this in their name; keep the others")
    parser.add_argument("--output", type=Path, default=RESULTS / "overload.json")
    options = parser.parse_args()
    sizes = ",".join(str(2**power) for power in range(BATCH_FACES.bit_length()))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        small, heavy = copy_model(MODEL, work / "small"), copy_model(HEAVY, work / "heavy")
        engines = json.loads(options.output.read_text())["engines"] if options.only else {}
        flags = ["--bucket-sizes", sizes, *options.server_flag]
        part = replace(unary(8, 1), connections=4)
        name = f"{BATCH_FACES} faces in {BATCH_MS:g} ms, one batch at a time, calls of 8 faces"
        if options.only in name:
            paced = null_ferserve(small, work / "null.log", flags, batch_ms=BATCH_MS, executors=1)
            engines[name] = beyond_peak(stack.enter_context(paced), part, options)
        net, part = HEAVY.parent.name, replace(unary(32, 1), connections=4)
        for name, grpc_server in (
            (f"{net} on these cores, calls of 32 faces", "native"),
            ("the same, --grpc-server grpcio", "grpcio"),
        ):
            if options.only not in name:
                continue
            flags = ["--grpc-server", grpc_server, *options.server_flag]
            with ferserve(heavy, work / f"{grpc_server}.log", flags, model=net) as real:
                engines[name] = beyond_peak(real, part, options)
    shares = [step["other_work_share"] for found in engines.values() for step in found["steps"]]
    document = {
        **machine_facts(),
        "other_work_share": round(sum(shares) / len(shares), 3),
        "deadline_s": options.deadline_s,
        "rounds": options.rounds,
        "measure_s": options.measure_s,
        "engines": engines,
    }
    print("\n".join(overload_table(document)))
    options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
