"""Writes the tables of benchmarks/results/peers.json as Markdown. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving_tables import errors, latency, number, short, table

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST = "ferserve"


def peer_table(document: Mapping[str, Any]) -> list[str]:
    """Writes each peer's results by load, their versions, and the peers that could not be measured."""
    return [*load_tables(document), *setup_table(document), *missing_lines(document)]


def load_tables(document: Mapping[str, Any]) -> list[str]:
    """Writes one table a load: throughput, latency, processor time beside ferserve's, memory."""
    lines: list[str] = []
    loads: dict[str, None] = {}
    for peer in document["peers"].values():
        loads.update(dict.fromkeys(peer["loads"]))
    for load in loads:
        heads = [load, "faces/s", "p50 / p95 / p99 ms", "server CPU-s per 1,000 faces", "to ferserve's"]
        heads += ["cores: server, load", "memory (PSS)"]
        base = document["peers"].get(FIRST, {}).get("loads", {}).get(load, {}).get("cpu_s_per_1000_faces")
        rows = []
        for name, peer in document["peers"].items():
            figures = peer["loads"].get(load)
            if figures is None:
                continue
            cpu = figures.get("cpu_s_per_1000_faces")
            rows.append(
                [
                    name,
                    number(figures.get("faces_per_s")) + errors(figures),
                    latency(figures),
                    short(cpu),
                    short(cpu / base if cpu and base else None),
                    f"{short(figures.get('server_cores'))}, {short(figures.get('client_cores'))}",
                    f"{number(figures.get('pss_mib'))} MiB",
                ]
            )
        lines += [*table(heads, rows), ""]
    return lines


def setup_table(document: Mapping[str, Any]) -> list[str]:
    """Writes each peer's interface and version."""
    rows = [
        [
            name,
            peer["interface"],
            ", ".join(f"{package} {version}" for package, version in peer["versions"].items()) or "this one",
            f"{peer['worst_score_error']:.4f}",
        ]
        for name, peer in document["peers"].items()
    ]
    return table(["server", "interface", "versions", "largest difference from the golden scores"], rows)


def missing_lines(document: Mapping[str, Any]) -> list[str]:
    """Lists the peers that could not be measured, with the reasons."""
    lines = [f"- {name}: {reason}" for name, reason in document["not_measured"].items()]
    return ["", "Not measured, or not in every round:", "", *lines] if lines else []
