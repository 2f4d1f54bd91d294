"""Records flame graphs of the server under unary calls and streams with py-spy.

Writes build/flame/*.svg. Only threads that hold the interpreter lock are counted: others wait, or compute in the
inference engine, which py-spy cannot tell apart. py-spy may need root, or kernel.yama.ptrace_scope=0. Run with
`make bench-flame`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from load.running import run_load
from loads import MODEL, ROOT, stream, unary
from peers.environments import install
from servers import copy_model, ferserve

IMAGES = ROOT / "build" / "flame"
LOADS = {
    "unary": unary(1, 32),
    "unary-32": unary(32, 4),
    "stream": stream(1, 32),
    "stream-32": stream(32, 8),
}


def main() -> None:
    """Records one graph per load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="seconds of each recording")
    parser.add_argument("--server-flag", action="append", default=[], help="a flag of ferserve; repeat")
    options = parser.parse_args()
    py_spy = str(install("py-spy").with_name("py-spy"))
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        work = Path(folder)
        repository = copy_model(MODEL, work / "models")
        with ferserve(repository, work / "server.log", options.server_flag) as server:
            for name, part in LOADS.items():
                times = {"warm_s": 1.0, "measure_s": options.seconds + 2.0}
                sent = pool.submit(run_load, server.address, server.pid, server.tag, (part,), **times)
                graph = IMAGES / f"{name}.svg"
                recording = ["record", "--pid", str(server.pid), "--subprocesses", "--gil", "--rate", "200"]
                recording += ["--duration", str(options.seconds), "--format", "flamegraph", "--output", str(graph)]
                subprocess.run([py_spy, *recording], check=True, capture_output=True)
                sent.result()
                print(f"{part.name}: {graph.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
