"""Runs loads on several servers alternately, so that the machine's pace affects all alike; computes medians."""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING, Any

from load.running import run_load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from loads import Load
    from servers import RunningServer

_MEDIANS = (
    "faces_per_s",
    "cpu_s_per_1000_faces",
    "server_cores",
    "client_cores",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "rss_mib",
    "pss_mib",
)


def interleaved(
    servers: Mapping[str, RunningServer],
    loads: Mapping[str, Load],
    *,
    rounds: int,
    warm_s: float,
    measure_s: float,
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Sends every load to every server, `rounds` times; gives the figures by load and server."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for load, parts in loads.items():
        found[load] = {name: [] for name in servers}
        for turn in range(rounds):
            names = list(servers)[:: 1 if turn % 2 == 0 else -1]
            for name in names:
                server = servers[name]
                figures = run_load(
                    server.address, server.pid, server.tag, parts, warm_s=warm_s, measure_s=measure_s
                )
                found[load][name].append(figures)
                tell(load, name, figures)
    return found


def tell(load: str, name: str, figures: Mapping[str, Any]) -> None:
    """Prints one run while the next one is running."""
    latency = next(iter(figures["parts"].values()))
    cpu = figures["cpu_s_per_1000_faces"]
    print(
        f"{load:28} {name:18} {figures['faces_per_s']:9.0f} faces/s  p50 {latency.get('p50_ms', 0):7.2f}  "
        f"p99 {latency.get('p99_ms', 0):7.2f} ms  {0 if cpu is None else cpu:7.3f} CPU-s/1,000 faces  "
        f"other work {figures['other_work_share']:.0%}  {figures['errors'] or ''}",
        flush=True,
    )


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Computes the medians of one load's runs on one server, errors added up; percentiles of the first part.

    Args:
        runs: Figures of `load.__main__`, one or more.
    """
    flat = [{**run, **next(iter(run["parts"].values())), "faces_per_s": run["faces_per_s"]} for run in runs]
    found: dict[str, Any] = {}
    for name in _MEDIANS:
        values = [each[name] for each in flat if each.get(name) is not None]
        if values:
            found[name] = round(statistics.median(values), 6)
    errors: dict[str, int] = {}
    for run in runs:
        for code, count in run["errors"].items():
            errors[code] = errors.get(code, 0) + count
    return {**found, "errors": errors}


def ratio(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Returns the median over the rounds of the ratio of one figure; None if there is none."""
    pairs = zip(ours, theirs, strict=True)
    ratios = [each[name] / other[name] for each, other in pairs if each.get(name) and other.get(name)]
    return round(statistics.median(ratios), 3) if ratios else None


def quartiles(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], name: str
) -> list[float] | None:
    """Returns the first and the third quartile of what `ratio` is the median of; None of less than two rounds."""
    pairs = zip(ours, theirs, strict=True)
    ratios = [each[name] / other[name] for each, other in pairs if each.get(name) and other.get(name)]
    if len(ratios) < 2:
        return None
    first, _, third = statistics.quantiles(ratios, method="inclusive")
    return [round(first, 3), round(third, 3)]


def other_work_share(found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> float:
    """Returns the mean share of the machine that went to neither server nor load."""
    shares = [
        run["other_work_share"] for by_server in found.values() for runs in by_server.values() for run in runs
    ]
    return round(statistics.fmean(shares), 3) if shares else 0.0


def add_time_options(
    parser: argparse.ArgumentParser, *, rounds: int, measure_s: float, warm_s: float = 1.0
) -> None:
    """Adds --rounds, --warm-s and --measure-s."""
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of every server")
    parser.add_argument("--warm-s", type=float, default=warm_s, help="seconds of load before those that count")
    parser.add_argument("--measure-s", type=float, default=measure_s, help="seconds that count")


def how_run(script: str, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the command and its times, for the results."""
    return {
        "command": " ".join([f"benchmarks/{script}", *sys.argv[1:]]),
        "rounds": options.rounds,
        "measure_s": options.measure_s,
    }
