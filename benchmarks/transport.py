"""Measures the cost of a request outside the model: ferserve with a model that takes no time beside a bare server.

The bare server, on grpc.aio, parses nothing and answers with bytes of the same sizes, so that no Python gRPC
server does less for a call; ferserve's extra time is its own: parsing, admission, batching, metrics. A second bare
server has gRPC poll as ferserve's own does (docs/adr/0023), as with `--grpc-server grpcio` (docs/adr/0027). All
get the same loads in short turns, so that changes of the machine's pace affect all of them. Processor time does
not include other work: its ratios hold on a busy machine, apart from cache effects; throughput and latency do not.
Prints a table and writes benchmarks/results/transport.json. Run with `make bench`; `--beside FOLDER` measures
another checkout, such as that of the commit before, in the same turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loads import CLASSIFY_LOADS, MODEL
from machine import machine_facts
from rounds import add_time_options, how_run, interleaved, medians, other_work_share, quartiles, ratio
from servers import copy_model, echo, null_ferserve
from serving_tables import transport_table

RESULTS = Path(__file__).resolve().parent / "results"
ECHO, ALIKE, OURS, GRPC = "bare gRPC", "bare gRPC that polls alike", "ferserve", "ferserve, --grpc-server grpcio"
BEFORE = "the checkout beside"
CPU = "cpu_s_per_1000_faces"


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Runs the servers and the loads, and returns the figures."""
    loads = {name: load for name, load in CLASSIFY_LOADS.items() if name.startswith(options.only)}
    repository = copy_model(MODEL, work / "models")
    with ExitStack() as stack:
        servers = {
            ECHO: stack.enter_context(echo(work / "echo.log")),
            ALIKE: stack.enter_context(echo(work / "alike.log", polls_as_ferserve=True)),
            OURS: stack.enter_context(null_ferserve(repository, work / "null.log", options.server_flag)),
            GRPC: stack.enter_context(
                null_ferserve(repository, work / "grpc.log", ["--grpc-server", "grpcio", *options.server_flag])
            ),
        }
        if options.beside:
            servers[BEFORE] = stack.enter_context(
                null_ferserve(repository, work / "before.log", options.server_flag, checkout=options.beside)
            )
        if options.servers:
            servers = {name: server for name, server in servers.items() if name in options.servers.split(";")}
        found = interleaved(
            servers, loads, rounds=options.rounds, warm_s=options.warm_s, measure_s=options.measure_s
        )
    first = next(iter(servers))
    figures = {
        load: {
            name: {
                **medians(by_server[name]),
                "throughput_ratio": ratio(by_server[name], by_server[first], "faces_per_s"),
                "cpu_ratio": ratio(by_server[name], by_server[first], CPU),
                "cpu_ratio_quartiles": quartiles(by_server[name], by_server[first], CPU),
            }
            for name in servers
        }
        for load, by_server in found.items()
    }
    return {"other_work_share": other_work_share(found), "loads": figures}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_time_options(parser, rounds=3, measure_s=0.6, warm_s=0.4)
    parser.add_argument("--only", default="", help="loads whose name begins so")
    parser.add_argument("--server-flag", action="append", default=[], help="a flag of ferserve; repeat")
    parser.add_argument("--beside", type=Path, help="checkout of another commit to measure in the same turns")
    parser.add_argument("--servers", default="", help="names of the servers, with ; between; default: all")
    parser.add_argument("--output", type=Path, default=RESULTS / "transport.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        figures = measure(options, Path(work))
    document = {**machine_facts(), **how_run("transport.py", options), **figures}
    print("\n".join(transport_table(document)))
    options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
