"""Measures goodput under impatient callers, and the effect of one caller with many streams on another caller.

Impatient callers: calls of 16 faces over 64 connections whose deadline is ten times the duration of a batch, every
second of them cancelled after half of that time, at 1, 2, 5 and 10 times the rate that the server can answer.
Goodput is the rate of calls answered in time. Beside them runs a patient caller on a connection of its own, with
one face at a time. The engine takes a set time for each batch without the processor, as one on a GPU does, so that
the load takes nothing from it.

Fairness: one caller keeps 200 streams of 16 faces busy over two connections; beside it runs the same patient
caller.

With `--baseline DIR`, a checkout of another version, both servers are measured alternately. Prints tables and
writes benchmarks/results/impatience.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load.running import run_load
from loads import MODEL, stream, unary
from machine import machine_facts
from rounds import add_time_options
from servers import RunningServer, copy_model, null_ferserve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from load.plan import Part

RESULTS = Path(__file__).resolve().parent / "results"
TIMES = (1.0, 2.0, 5.0, 10.0)
FACES = 16
BATCH_FACES = 32
CONNECTIONS = 64
NEIGHBOUR = replace(unary(1, 1, timeout_s=1.0), name="neighbour")


def impatient(rate: float, deadline_s: float) -> Part:
    """Sends calls at a rate, half of which are cancelled early."""
    part = unary(FACES, 1, rate=rate, timeout_s=deadline_s)
    return replace(part, name="impatient", connections=CONNECTIONS, cancel_s=deadline_s / 2)


def part_summary(part: Mapping[str, Any], measure_s: float) -> dict[str, float]:
    """Counts answered and unanswered calls of one part, with its times. Pure."""
    failed_per_s = sum(part["errors"].values()) / measure_s
    return {
        "faces_per_s": part["faces_per_s"],
        "answered_share": round(part["calls_per_s"] / max(part["calls_per_s"] + failed_per_s, 1e-9), 3),
        "p50_ms": part.get("p50_ms", 0.0),
        "p99_ms": part.get("p99_ms", 0.0),
    }


def median_summary(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the medians over the rounds, by name. Pure."""
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


def interleaved(
    servers: Mapping[str, RunningServer], parts: tuple[Part, ...], options: argparse.Namespace
) -> dict[str, dict[str, dict[str, float]]]:
    """Sends a load to each server, round by round; gives medians by server and part."""
    runs: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in servers}
    for number in range(options.rounds):
        for name in list(servers)[:: -1 if number % 2 else 1]:
            server = servers[name]
            found = run_load(
                server.address, server.pid, server.tag, parts, warm_s=options.warm_s, measure_s=options.measure_s
            )
            for part, figures in found["parts"].items():
                summary = part_summary(figures, options.measure_s) | {"server_cores": found["server_cores"]}
                runs[name].setdefault(part, []).append(summary)
    return {name: {part: median_summary(each) for part, each in parts.items()} for name, parts in runs.items()}


def table(document: Mapping[str, Any]) -> list[str]:
    """Returns the figures as tables in Markdown. Pure."""
    lines = [
        "| load | server | faces/s | of its peak | answered | neighbour's p50 ms | its p99 ms | answered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for load, servers in document["loads"].items():
        for server, parts in servers.items():
            hog = next(part for name, part in parts.items() if name != NEIGHBOUR.name)
            beside = parts[NEIGHBOUR.name]
            share = hog["faces_per_s"] / document["peaks"][server]
            lines.append(
                f"| {load} | {server} | {hog['faces_per_s']:.0f} | {share:.0%} | {hog['answered_share']:.0%} "
                f"| {beside['p50_ms']:.1f} | {beside['p99_ms']:.1f} | {beside['answered_share']:.0%} |"
            )
    return lines


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_time_options(parser, rounds=3, measure_s=2.0, warm_s=1.0)
    parser.add_argument("--baseline", type=Path, help="checkout of another version, measured alternately")
    parser.add_argument("--batch-ms", type=float, default=20.0, help="time of a batch of up to 32 faces")
    parser.add_argument("--server-flag", action="append", default=[], help="a flag of ferserve; repeat")
    parser.add_argument("--output", type=Path, default=RESULTS / "impatience.json")
    options = parser.parse_args()
    sizes = ",".join(str(2**power) for power in range(BATCH_FACES.bit_length()))
    flags = ["--bucket-sizes", sizes, *options.server_flag]
    checkouts = {"this version": None} | ({"baseline": options.baseline} if options.baseline else {})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        repository = copy_model(MODEL, work / "models")
        servers = {
            name: stack.enter_context(
                null_ferserve(
                    repository,
                    work / f"{name}.log",
                    flags,
                    batch_ms=options.batch_ms,
                    executors=1,
                    checkout=checkout,
                )
            )
            for name, checkout in checkouts.items()
        }
        patient = replace(unary(FACES, 16), connections=4)
        at_peak = interleaved(servers, (patient,), options)
        peaks = {name: parts[patient.name]["faces_per_s"] for name, parts in at_peak.items()}
        print(f"peaks: {peaks}", flush=True)
        loads = {}
        for times in TIMES:
            load = (impatient(times * max(peaks.values()) / FACES, 10 * options.batch_ms / 1e3), NEIGHBOUR)
            loads[f"{times:g} times the peak"] = interleaved(servers, load, options)
            print(f"{times:g} x: {loads[f'{times:g} times the peak']}", flush=True)
        hog = replace(stream(FACES, 200, 2), name="200 streams")
        loads["200 unanswered messages on two connections"] = interleaved(servers, (hog, NEIGHBOUR), options)
    document = {
        **machine_facts(),
        "batch_ms": options.batch_ms,
        "rounds": options.rounds,
        "measure_s": options.measure_s,
        "peaks": peaks,
        "loads": loads,
    }
    print("\n".join(table(document)))
    options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
