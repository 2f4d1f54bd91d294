"""Flame graphs of the server under unary calls and under streams, recorded by py-spy.

Writes docs/images/flame-*.svg and benchmarks/results/flame.json, which has the functions that take the most. Only
threads that hold the interpreter lock are counted: others wait, or compute in TensorFlow, which py-spy cannot tell
apart. py-spy may need root, or kernel.yama.ptrace_scope=0. Run with `make bench-flame`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flame_graph import self_shares, svg_of, tree_of
from load.running import run_load
from loads import MODEL, ROOT, stream, unary
from machine import machine_facts
from peers.environments import install
from servers import copy_model, ferserve

RESULTS = Path(__file__).resolve().parent / "results"
IMAGES = ROOT / "docs" / "images"
LOADS = {
    "unary": unary(1, 32),
    "unary-32": unary(32, 4),
    "stream": stream(1, 32),
    "stream-32": stream(32, 8),
}


def main() -> None:
    """Records, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="seconds of each recording")
    parser.add_argument("--server-flag", action="append", default=[], help="a flag of ferserve; repeat")
    options = parser.parse_args()
    py_spy = install("py-spy").with_name("py-spy")
    hottest = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        work = Path(folder)
        repository = copy_model(MODEL, work / "models")
        with ferserve(repository, work / "server.log", options.server_flag) as server:
            shares = []
            for name, part in LOADS.items():
                times = {"warm_s": 1.0, "measure_s": options.seconds + 2.0}
                sent = pool.submit(run_load, server.address, server.pid, server.tag, (part,), **times)
                raw = work / f"{name}.txt"
                command = [
                    str(py_spy),
                    "record",
                    "--pid",
                    str(server.pid),
                    "--subprocesses",
                    "--gil",
                    "--rate",
                    "200",
                ]
                command += ["--duration", str(options.seconds), "--format", "raw", "--output", str(raw)]
                subprocess.run(command, check=True, capture_output=True)
                shares.append(sent.result()["other_work_share"])
                root = tree_of(raw.read_text().splitlines())
                (IMAGES / f"flame-{name}.svg").write_text(svg_of(root, f"ferserve, {part.name}"))
                hottest[part.name] = [
                    {"function": function, "share": round(share, 3)} for function, share in self_shares(root, 10)
                ]
                print(
                    part.name,
                    *(f"  {each['share']:.1%} {each['function']}" for each in hottest[part.name]),
                    sep="\n",
                )
    document = {
        **machine_facts(),
        "other_work_share": round(statistics.fmean(shares), 3),
        "flags": options.server_flag,
        "hottest": hottest,
    }
    (RESULTS / "flame.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
