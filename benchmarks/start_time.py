"""Measures the time from the command to READY: an installed server with the bundled models, files in the cache.

Starts `ferserve-server` of an environment made of requirements/server-cpu.lock alone, several times in sequence;
the first start, which fills the file cache and writes bytecode, does not count. Prints a table and writes
benchmarks/results/start_time.json. Run with `make bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from load.process_tree import cpu_s, machine_ticks, memory_mib, processes_of
from loads import ROOT
from machine import machine_facts
from servers import free_port, is_listening, is_serving, server_command
from serving_tables import start_table

RESULTS = Path(__file__).resolve().parent / "results"


def start_once(command: Path, flags: list[str], work: Path) -> dict[str, float]:
    """Starts the server, waits until it is ready, and ends it."""
    address = f"127.0.0.1:{free_port()}"
    listening_s = 0.0
    began_s = time.perf_counter()
    all_before_s, used_before_s = machine_ticks()

    def ready(at: str) -> bool:
        nonlocal listening_s
        if not listening_s:
            if not is_listening(at):
                return False
            listening_s = time.perf_counter() - began_s
        return is_serving(at)

    arguments = [str(command), "--model-repo", str(ROOT / "model_repo"), "--listen", address]
    arguments += ["--http-listen", f"127.0.0.1:{free_port()}", "--metrics-listen", f"127.0.0.1:{free_port()}"]
    # Only what is installed counts: not the checkout that this script may run from.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with server_command([*arguments, *flags], address, ready, work / "server.log", env=env) as server:
        ready_s = time.perf_counter() - began_s
        pids = processes_of(server.pid, server.tag)
        server_s = cpu_s(pids)
        all_s, used_s = machine_ticks()
        other_s = max(0.0, used_s - used_before_s - server_s)
        return {
            "listening_s": round(listening_s, 3),
            "ready_s": round(ready_s, 3),
            "cpu_s": round(server_s, 3),
            "pss_mib": round(memory_mib(pids)[1]),
            "other_work_share": round(other_s / max(all_s - all_before_s, 1e-9), 3),
        }


def spread(runs: list[dict[str, float]], name: str) -> dict[str, float]:
    """Computes median, minimum and maximum of one figure. Pure."""
    values = [run[name] for run in runs]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="starts that count, 1 or more")
    parser.add_argument("--command", type=Path, required=True, help="the installed ferserve-server")
    parser.add_argument("--server-flag", action="append", default=[], help="a flag of ferserve; repeat")
    parser.add_argument("--output", type=Path, default=RESULTS / "start_time.json")
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as work:
        for number in range(options.runs + 1):
            found = start_once(options.command.absolute(), options.server_flag, Path(work))
            print(f"start {number}{'' if number else ' (does not count)'}: {found}", flush=True)
            if number:
                runs.append(found)
    document: dict[str, Any] = {
        **machine_facts(),
        "model": "the default, beside the other bundled models",
        "starts": len(runs),
        "other_work_share": round(statistics.fmean(run["other_work_share"] for run in runs), 3),
        **{name: spread(runs, name) for name in ("listening_s", "ready_s", "cpu_s", "pss_mib")},
    }
    print("\n".join(start_table(document)))
    options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
