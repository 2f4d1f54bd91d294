"""Restarts, kills, overloads and starves real servers, and reports what callers got.

Runs every part in its share of `--seconds`, prints a table, and writes benchmarks/results/chaos.json and the table
of docs/chaos.md. Run with `make chaos`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from loads import ROOT
from machine import OtherWork, machine_facts

from chaos import engine_losses, idle_connections, log_sinks, restarts, soak, storms, tables

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS: Final[dict[str, tuple[Callable[[float, Path], dict[str, Any]], float]]] = {
    "restarts": (restarts.run, 0.40),
    "engine_losses": (engine_losses.run, 0.18),
    "storms": (storms.run, 0.12),
    "soak": (soak.run, 0.20),
    "log_sinks": (log_sinks.run, 0.07),
    "idle_connections": (idle_connections.run, 0.03),
}
"""What is run, and its share of the time."""


def main() -> None:
    """Runs the parts and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1_300.0, help="time for all parts, 60 or more")
    parser.add_argument("--part", choices=PARTS, action="append", help="run this part alone; repeat")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "chaos.json")
    options = parser.parse_args()
    document: dict[str, Any] = {**machine_facts(), "seconds": options.seconds, "other_work_share": 0.0}
    with tempfile.TemporaryDirectory() as work, OtherWork() as others:
        for name, (run, share) in PARTS.items():
            if options.part and name not in options.part:
                continue
            started_s = time.monotonic()
            folder = Path(work) / name
            folder.mkdir()
            try:
                document[name] = run(share * options.seconds, folder)
            except Exception as error:  # noqa: BLE001 - the other parts still have something to say
                document[name] = {"failed": repr(error)[:500]}
            print(f"{name}: {time.monotonic() - started_s:.0f} s, {document[name]}", flush=True)
            document["other_work_share"] = round(others.share(), 3)
            # After each part, so that one that is interrupted does not take the others with it.
            options.output.write_text(json.dumps(document, indent=1) + "\n")
    print("\n".join(tables.chaos_tables(document)))
    if not options.part and options.output.parent == ROOT / "benchmarks" / "results":
        tables.write_page(document)


if __name__ == "__main__":
    main()
