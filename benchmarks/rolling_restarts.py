"""Measures ten rolling restarts of three servers behind Envoy, with steady load from another process.

The servers run a model that takes no processor time, so that on a small machine the load of a start is that of the
program alone. Latency counts from the time at which a call was due. Prints a table and writes
benchmarks/results/rolling_restarts.json. Run with `make bench-restarts`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envoy_proxy import Envoy
from machine import OtherWork, machine_facts
from restart_figures import Restart, restart_figures, restart_table
from servers import copy_model, free_port, is_serving, server_command
from swap_figures import Answer
from traffic import now_s
from versions import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import RunningServer

RESULTS = Path(__file__).resolve().parent / "results"


class Servers:
    """Keeps servers on fixed addresses.

    Attributes:
        addresses: HOST:PORT of each.
    """

    def __init__(self, work: Path, count: int, flags: list[str]) -> None:
        self.addresses = [f"127.0.0.1:{free_port()}" for _ in range(count)]
        self._repository = copy_model(MODEL, work / "models")
        self._work = work
        self._flags = flags
        self._running: dict[str, contextlib.ExitStack] = {}

    def start(self, address: str) -> RunningServer:
        """Starts the server of an address and waits until it serves."""
        command = [sys.executable, "-m", "null_server", "1", "2", "--listen", address]
        command += ["--model-repo", str(self._repository), *self._flags]
        log = self._work / f"{address.rpartition(':')[2]}.log"
        stack = contextlib.ExitStack()
        server = stack.enter_context(server_command(command, address, is_serving, log))
        self._running[address] = stack
        return server

    def stop(self, address: str) -> None:
        """Tells the server of an address to stop, and waits for its end."""
        self._running.pop(address).close()

    def stop_all(self) -> None:
        """Stops what runs."""
        for address in list(self._running):
            self.stop(address)


@contextlib.contextmanager
def traffic_process(address: str, output: Path, rate: float) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the load until the block is left; what it saw is in `output` then."""
    script = Path(__file__).with_name("restart_traffic.py")
    process = subprocess.Popen([sys.executable, str(script), address, str(output), "--rate", str(rate)])
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        if process.wait(120) != 0:
            raise RuntimeError(f"the load ended with exit code {process.returncode}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Runs servers, proxy, load and restarts, and returns the figures."""
    seen = work / "seen.json"
    servers = Servers(work, 3, ["--lame-duck-s", str(options.lame_duck_s)])
    try:
        for address in servers.addresses:
            servers.start(address)
        with Envoy(servers.addresses, work) as envoy:
            envoy.wait_for_servers(servers.addresses)
            with traffic_process(envoy.address, seen, options.rate) as traffic:
                time.sleep(options.settle_s)
                begun_s = now_s()
                restarts = []
                with OtherWork(traffic.pid) as others:
                    for number in range(options.rounds * 3):
                        time.sleep(options.gap_s)
                        address, stop_s = servers.addresses[number % 3], now_s()
                        servers.stop(address)
                        servers.start(address)
                        envoy.wait_for_servers(servers.addresses)
                        restarts.append(Restart(stop_s, now_s()))
                        print(f"restart {number + 1}: {now_s() - stop_s:.1f} s", flush=True)
                    time.sleep(options.gap_s)
                    share = others.share()
            retries = envoy.counter("upstream_rq_retry")
    finally:
        servers.stop_all()
    document = json.loads(seen.read_text())
    answers = [Answer(*each) for each in document["answers"]]
    return {
        **machine_facts(),
        "command": " ".join(["benchmarks/rolling_restarts.py", *sys.argv[1:]]),
        "envoy": "1.40.0",
        "lame_duck_s": options.lame_duck_s,
        "single_faces_per_s": options.rate,
        "work_outside_the_load_share": round(share, 2),
        "retries_by_envoy": retries,
        "streams_resumed": document["reopened"],
        **restart_figures([answer for answer in answers if answer.due_s >= begun_s], restarts),
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="restarts of all three servers")
    parser.add_argument("--rate", type=float, default=40.0, help="single faces a second; others in proportion")
    parser.add_argument("--lame-duck-s", type=float, default=3.0, help="the servers' setting")
    parser.add_argument(
        "--gap-s", type=float, default=3.0, help="seconds between restarts, which are the yardstick"
    )
    parser.add_argument("--settle-s", type=float, default=5.0, help="seconds before the first one, not counted")
    parser.add_argument("--output", type=Path, default=RESULTS / "rolling_restarts.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        document = measure(options, Path(work))
    for name in ("restarts", "calls", "failed_calls", "failures", "retries_by_envoy", "streams_resumed"):
        print(f"{name:20} {document[name]}")
    print("\n".join(restart_table(document)))
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
