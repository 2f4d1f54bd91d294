"""Measures the server with a light net under all loads, and variants of it with their flags alternately.

Prints a table and writes benchmarks/results/serving.json. Run with `make bench`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loads import ALL_LOADS, MODEL
from machine import machine_facts
from rounds import add_time_options, how_run, interleaved, medians, other_work_share, quartiles, ratio
from servers import NotStartedError, RunningServer, copy_model, ferserve
from serving_tables import serving_table

RESULTS = Path(__file__).resolve().parent / "results"
BASE = "default"
VARIANTS = (
    f"{BASE}=",
    "gRPC's server=--grpc-server grpcio",
    "batches untuned=--tune fixed",
    "2 processes=--processes 2",
)


def start_all(
    variants: list[str], work: Path, stack: ExitStack
) -> tuple[dict[str, RunningServer], dict[str, str]]:
    """Starts a server for every variant; gives those that run, and why the others do not.

    Args:
        variants: NAME=FLAGS each.
        work: Folder for models and logs.
        stack: Ends the servers.
    """
    repository = copy_model(MODEL, work / "models")
    running: dict[str, RunningServer] = {}
    missing: dict[str, str] = {}
    for number, variant in enumerate(variants):
        name, _, text = variant.partition("=")
        server = ferserve(repository, work / f"{number}.log", shlex.split(text))
        try:
            running[name] = stack.enter_context(server)
        except NotStartedError as error:
            missing[name] = str(error)
            print(f"{name}: {error}", flush=True)
    return running, missing


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Runs the servers and the loads, and returns the figures."""
    loads = {name: load for name, load in ALL_LOADS.items() if name.startswith(options.only)}
    variants = options.variant or list(VARIANTS)
    with ExitStack() as stack:
        servers, missing = start_all(variants, work, stack)
        if not servers:
            raise SystemExit(f"no server started: {missing}")
        times = {"rounds": options.rounds, "warm_s": options.warm_s, "measure_s": options.measure_s}
        found = interleaved(servers, loads, **times)
    base = next(iter(servers))
    figures = {
        load: {
            name: {
                **medians(runs),
                "throughput_ratio": ratio(runs, by_server[base], "faces_per_s"),
                "throughput_ratio_quartiles": quartiles(runs, by_server[base], "faces_per_s"),
                "parts": runs[-1]["parts"] if len(runs[-1]["parts"]) > 1 else {},
            }
            for name, runs in by_server.items()
        }
        for load, by_server in found.items()
    }
    flags = dict(each.partition("=")[::2] for each in variants)
    return {
        "model": MODEL.parent.name,
        "variants": {name: flags[name] for name in servers},
        "not_started": missing,
        "other_work_share": other_work_share(found),
        "loads": figures,
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_time_options(parser, rounds=2, measure_s=0.8, warm_s=0.5)
    parser.add_argument("--only", default="", help="loads whose name begins so")
    parser.add_argument("--variant", action="append", help='NAME=FLAGS, such as "two=--processes 2"; repeat')
    parser.add_argument("--output", type=Path, default=RESULTS / "serving.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        figures = measure(options, Path(work))
    document = {**machine_facts(), **how_run("serving.py", options), **figures}
    print("\n".join(serving_table(document)))
    options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
