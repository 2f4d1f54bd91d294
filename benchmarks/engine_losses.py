"""Measures the time from a killed or stopped engine to the next answer, with and without a standby engine.

A real server process with the bundled fer-nano; one caller at a fixed rate, whose calls are not retried. Engines
are killed in a row: the next one as soon as the server has recovered. Prints a table and writes
benchmarks/results/engine_losses.json. Run with `make bench-losses`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from loads import ROOT
from machine import OtherWork, machine_facts
from servers import free_port, is_serving, server_command
from serving_tables import losses_table

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc, face_pb2

RESULTS = Path(__file__).resolve().parent / "results"
ENGINE: Final = "ferserve_server.app.engine_main"
CALLS_PER_S: Final = 100
SETTLED_S: Final = 60.0
"""Longest wait for the server to be whole again."""


class Caller:
    """Calls at a fixed rate on a thread, and records the outcome of each call."""

    def __init__(self, address: str) -> None:
        packed = face_pb2.PackedFaces(pixels=np.zeros((1, 48, 48), np.uint8).tobytes(), face_count=1)
        request = emotion_pb2.ClassifyFacesRequest(packed=packed)
        request.model.name = "fer-nano"
        self._request = request
        self._channel = grpc.insecure_channel(address, [("grpc.enable_retries", 0)])
        self._stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._stopped = threading.Event()
        self.outcomes: list[tuple[float, float, str]] = []
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def _call(self) -> None:
        due_s = time.monotonic()
        while not self._stopped.is_set():
            due_s += 1 / CALLS_PER_S
            time.sleep(max(0.0, due_s - time.monotonic()))
            sent_s = time.monotonic()
            future = self._stub.ClassifyFaces.future(self._request, timeout=60)
            future.add_done_callback(lambda done, sent_s=sent_s: self._note(sent_s, done))

    def _note(self, sent_s: float, done: Any) -> None:  # noqa: ANN401 - gRPC's own
        code = done.code()
        self.outcomes.append((sent_s, time.monotonic(), "OK" if code is grpc.StatusCode.OK else code.name))

    def close(self) -> None:
        """Ends the calls."""
        self._stopped.set()
        self._thread.join()
        self._channel.close()


def engines_of(server_pid: int) -> list[int]:
    """Returns the process ids of a server's engines."""
    found = []
    for path in Path(f"/proc/{server_pid}/task").glob("*/children"):
        for pid in map(int, path.read_text().split()):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if ENGINE.encode() in arguments:
                found.append(pid)
    return found


def serving_engine(log_path: Path) -> int | None:
    """Returns the process id of the active engine by the server's log; None for the first one."""
    pid = None
    for line in log_path.read_text().splitlines():
        if '"engine restarted"' in line:
            pid = json.loads(line)["pid"]
    return pid


def lose(server_pid: int, caller: Caller, log_path: Path, number: signal.Signals, standby_count: int) -> float:
    """Sends a signal to the engine that serves, and returns the seconds until a later call is answered."""
    give_up_s = time.monotonic() + SETTLED_S
    ready = '"standby engine ready"'
    restarts = log_path.read_text().count('"engine restarted"')
    while standby_count and log_path.read_text().count(ready) <= restarts and time.monotonic() < give_up_s:
        time.sleep(0.05)
    pid = serving_engine(log_path) or min(engines_of(server_pid))
    at_s = time.monotonic()
    os.kill(pid, number)
    while time.monotonic() < at_s + SETTLED_S:
        done = [ended_s for sent_s, ended_s, code in list(caller.outcomes) if sent_s > at_s and code == "OK"]
        if done and log_path.read_text().count('"engine restarted"') > restarts:
            return min(done) - at_s
        time.sleep(0.01)
    raise TimeoutError("the server did not recover")


def measure(standby_count: int, kill_count: int, hang_count: int, work: Path) -> dict[str, Any]:
    """Runs a server and loses its engines."""
    address, log_path = f"127.0.0.1:{free_port()}", work / f"server-{standby_count}.log"
    command = [str(ROOT / ".venv/bin/ferserve-server"), "--model-repo", str(ROOT / "model_repo")]
    command += ["--listen", address, "--http-listen", "off", "--metrics-listen", "off", "--log-format", "json"]
    command += ["--default-model", "fer-nano", "--version-policy", "fer-nano=latest:1"]
    command += ["--standby-engines", str(standby_count), "--repository-poll-s", "0"]
    models = work / "models"
    if not models.exists():
        models.mkdir()
        (models / "fer-nano").symlink_to(ROOT / "model_repo" / "fer-nano")
    command[2] = str(models)
    with server_command(command, address, is_serving, log_path) as server, OtherWork(server.pid) as other:
        caller = Caller(address)
        time.sleep(1.0)
        kills = [lose(server.pid, caller, log_path, signal.SIGKILL, standby_count) for _ in range(kill_count)]
        hangs = [lose(server.pid, caller, log_path, signal.SIGSTOP, standby_count) for _ in range(hang_count)]
        share = other.share()
        caller.close()
    codes = Counter(code for _, _, code in caller.outcomes)
    return {"kill_s": kills, "hang_s": hangs, "calls": dict(codes), "other_work_share": round(share, 3)}


def summary(seconds: list[float]) -> dict[str, float]:
    """Computes median and maximum. Pure."""
    return {"median": round(statistics.median(seconds), 3), "max": round(max(seconds), 3)}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="engines that are killed, 1 or more")
    parser.add_argument("--hangs", type=int, default=5, help="engines that are stopped, 1 or more")
    parser.add_argument("--output", type=Path, default=RESULTS / "engine_losses.json")
    options = parser.parse_args()
    runs = {}
    with tempfile.TemporaryDirectory() as work:
        for standby_count in (0, 1):
            run = measure(standby_count, options.kills, options.hangs, Path(work))
            print(standby_count, run, flush=True)
            runs[str(standby_count)] = {
                "kill_s": summary(run["kill_s"]),
                "hang_s": summary(run["hang_s"]),
                "calls": run["calls"],
                "other_work_share": run["other_work_share"],
            }
    document = {
        **machine_facts(),
        "other_work_share": max(run["other_work_share"] for run in runs.values()),
        "kills": options.kills,
        "hangs": options.hangs,
        "calls_per_s": CALLS_PER_S,
        "by_standby_count": runs,
    }
    options.output.write_text(json.dumps(document, indent=2) + "\n")
    print("\n".join(losses_table(document)))


if __name__ == "__main__":
    main()
