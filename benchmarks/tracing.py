"""Measures the processor time of traces: ferserve without them beside ferserve that samples a share of calls.

The model takes no time, so that traces are as large a share of a call as they can be. Traces go to a real OTLP
receiver over gRPC, which runs in this process and does not count. Servers get the same load in short turns;
processor time does not include other work. Prints a table and writes benchmarks/results/tracing.json. Run with
`make bench-tracing`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from loads import MODEL, unary
from machine import machine_facts
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from rounds import add_time_options, how_run, interleaved, medians, other_work_share, quartiles, ratio
from servers import copy_model, null_ferserve

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).resolve().parent / "results"
OFF = "no traces"
CPU = "cpu_s_per_1000_faces"
SHARES = (0.01,)
"""Shares of calls that are sampled; 0.0 measures the decision alone."""


class SpanCounter(trace_service_pb2_grpc.TraceServiceServicer):
    """Counts the spans that it receives."""

    def __init__(self) -> None:
        self.count = 0

    def Export(self, request: Any, context: object) -> Any:  # noqa: N802, ANN401 - the stubs' name and types
        """Counts spans."""
        del context
        self.count += sum(len(scope.spans) for group in request.resource_spans for scope in group.scope_spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@contextlib.contextmanager
def receiver(counter: SpanCounter) -> Iterator[str]:
    """Runs an OTLP receiver; yields its address."""
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(counter, server)  # type: ignore[no-untyped-call, unused-ignore]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None)


def sampling(endpoint: str, share: float) -> dict[str, str]:
    """Returns the variables that sample a share of the calls."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(share),
    }


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Runs the servers and the loads, and returns the figures."""
    repository = copy_model(MODEL, work / "models")
    loads = {"1 face, 32 at once": (unary(1, 32),)}
    counters = {share: SpanCounter() for share in options.shares}
    with contextlib.ExitStack() as stack:
        servers = {OFF: stack.enter_context(null_ferserve(repository, work / "off.log"))}
        for share, counter in counters.items():
            variables = sampling(stack.enter_context(receiver(counter)), share)
            log = work / f"{share}.log"
            servers[f"{share:.0%} sampled"] = stack.enter_context(
                null_ferserve(repository, log, variables=variables)
            )
        found = interleaved(
            servers, loads, rounds=options.rounds, warm_s=options.warm_s, measure_s=options.measure_s
        )
    spans = {f"{share:.0%} sampled": counter.count for share, counter in counters.items()}
    figures = {
        load: {
            name: {
                **medians(by_server[name]),
                "cpu_ratio": ratio(by_server[name], by_server[OFF], CPU),
                "cpu_ratio_quartiles": quartiles(by_server[name], by_server[OFF], CPU),
                "spans_received": spans.get(name, 0),
            }
            for name in servers
        }
        for load, by_server in found.items()
    }
    return {"other_work_share": other_work_share(found), "loads": figures}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_time_options(parser, rounds=40, measure_s=0.3, warm_s=0.1)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="shares of calls to sample")
    parser.add_argument("--output", type=Path, default=RESULTS / "tracing.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        figures = measure(options, Path(work))
    document = {**machine_facts(), **how_run("tracing.py", options), **figures}
    for load, by_server in figures["loads"].items():
        for name, each in by_server.items():
            print(f"{load:20} {name:14} processor time x{each['cpu_ratio']} {each['cpu_ratio_quartiles']}")
    options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
