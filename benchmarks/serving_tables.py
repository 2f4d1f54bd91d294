"""Makes the tables of transport.py, serving.py, overload.py, start_time.py, engine.py, engine_losses.py. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Writes lines of Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def number(value: float | None, digits: int = 0) -> str:
    """Formats a number with separated thousands, or a dash for none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def short(value: float | None) -> str:
    """Formats three significant digits, or a dash for none."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def latency(figures: Mapping[str, Any]) -> str:
    """Formats p50 / p95 / p99."""
    if figures.get("p50_ms") is None:
        return "-"
    return " / ".join(short(figures[name]) for name in ("p50_ms", "p95_ms", "p99_ms"))


def errors(figures: Mapping[str, Any]) -> str:
    """Formats errors by code, after a comma; nothing for none."""
    found = figures.get("errors") or {}
    return "".join(f", {count:,} {code}" for code, count in found.items())


def spread(quartiles: Sequence[float] | None) -> str:
    """Returns the quartiles behind a median, in brackets; nothing for none."""
    return f" ({short(quartiles[0])} to {short(quartiles[1])})" if quartiles else ""


def transport_table(document: Mapping[str, Any]) -> list[str]:
    """Writes the table of benchmarks/results/transport.json; the first server of each load is the baseline."""
    heads = ["load", "server", "faces/s", "to bare gRPC", "CPU-s per 1,000 faces", "to bare gRPC (quartiles)"]
    heads += ["p50 / p95 / p99 ms"]
    rows = []
    for load, by_server in document["loads"].items():
        for at, (name, found) in enumerate(by_server.items()):
            rows.append(
                [
                    load if at == 0 else "",
                    name,
                    number(found.get("faces_per_s")) + errors(found),
                    short(found["throughput_ratio"]) if at else "-",
                    short(found.get("cpu_s_per_1000_faces")),
                    short(found["cpu_ratio"]) + spread(found["cpu_ratio_quartiles"]) if at else "-",
                    latency(found),
                ]
            )
    return table(heads, rows)


def serving_table(document: Mapping[str, Any]) -> list[str]:
    """Writes the table of benchmarks/results/serving.json."""
    heads = ["load", "server", "faces/s", "to the first (quartiles)", "p50 / p95 / p99 ms"]
    heads += ["server CPU-s per 1,000 faces", "cores: server, load", "memory (PSS)"]
    rows = []
    for load, by_server in document["loads"].items():
        for at, (name, figures) in enumerate(by_server.items()):
            rows.append(
                [
                    "" if at else load,
                    name,
                    number(figures.get("faces_per_s")) + errors(figures),
                    short(figures["throughput_ratio"]) + spread(figures["throughput_ratio_quartiles"])
                    if at
                    else "-",
                    latency(figures),
                    short(figures.get("cpu_s_per_1000_faces")),
                    f"{short(figures.get('server_cores'))}, {short(figures.get('client_cores'))}",
                    f"{number(figures.get('pss_mib'))} MiB",
                ]
            )
    notes = [f"- {name}: {why}" for name, why in document["not_started"].items()]
    return [*table(heads, rows), *(["", "Not started:", "", *notes] if notes else [])]


def overload_table(document: Mapping[str, Any]) -> list[str]:
    """Writes the table of benchmarks/results/overload.json."""
    heads = ["engine", "offered, times the peak", "sent, faces/s", "answered, faces/s", "of the peak"]
    heads += ["answered: p50 / p95 / p99 ms", "rejected, calls/s", "rejected after: p50 / p95 / p99 ms"]
    heads += ["cores: server, load"]
    rows = []
    for engine, found in document["engines"].items():
        for at, step in enumerate(found["steps"]):
            rows.append(
                [
                    "" if at else engine,
                    f"{step['times_peak']:g}",
                    number(step["sent_faces_per_s"]),
                    number(step["faces_per_s"]),
                    f"{step['of_peak']:.0%}",
                    latency(step),
                    number(step["rejected_per_s"]) + (f" ({', '.join(step['errors'])})" if step["errors"] else ""),
                    latency(step["rejected"]),
                    f"{short(step['server_cores'])}, {short(step['client_cores'])}",
                ]
            )
    return table(heads, rows)


def start_table(document: Mapping[str, Any]) -> list[str]:
    """Writes the table of benchmarks/results/start_time.json."""
    heads = ["from the command to", "median", "least", "most"]
    rows = []
    for name, label in (("listening_s", "listening"), ("ready_s", "READY (health says SERVING)")):
        found = document[name]
        rows.append([label, *(f"{found[which]:.2f} s" for which in ("median", "min", "max"))])
    return table(heads, rows)


def losses_table(document: Mapping[str, Any]) -> list[str]:
    """Writes the table of benchmarks/results/engine_losses.json."""
    heads = [
        "standby engines",
        "kill to next answer: median",
        "most",
        "hang to next answer: median",
        "most",
        "calls",
    ]
    rows = []
    for count, run in document["by_standby_count"].items():
        kill, hang = run["kill_s"], run["hang_s"]
        times = (kill["median"], kill["max"], hang["median"], hang["max"])
        calls = ", ".join(f"{number(calls)} {code}" for code, calls in sorted(run["calls"].items()))
        rows.append([count, *(f"{seconds:.2f} s" for seconds in times), calls])
    return table(heads, rows)


def engine_table(document: Mapping[str, Any]) -> list[str]:
    """Writes the table of benchmarks/results/engine.json."""
    rates, ratios = document["faces_per_s"], document["ratio_to_signature"]
    sizes = list(next(iter(rates.values())))
    heads = ["way into TensorFlow", *(f"batches of {size}: faces/s" for size in sizes)]
    rows = [
        [name, *(f"{number(by_size[size])} ({short(ratios[name][size])} x)" for size in sizes)]
        for name, by_size in rates.items()
    ]
    return table(heads, rows)


def batcher_table(document: Mapping[str, Any]) -> list[str]:
    """Writes the table of benchmarks/results/batcher_overhead.json."""
    heads = ["one face, one caller", "median"]
    labels = {
        "direct_ms": "straight into the model",
        "on_a_thread_ms": "the model on a thread",
        "batched_ms": "through the batcher",
        "batcher_overhead_ms": "what the batcher adds",
    }
    rows = [[label, f"{document[name]:.3f} ms"] for name, label in labels.items()]
    return table(heads, rows)
