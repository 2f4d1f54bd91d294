"""Compares ferserve with other servers that run the same net on the same engine, alternately under each load.

Each has an environment of its own below `.bench/`, and ordinary settings (`peers/catalogue.py`). A peer's answers
are compared with the golden scores before it is measured. A peer that cannot be installed or started is reported
with the reason, and the others go on. Prints a table and writes benchmarks/results/peers.json. Run with `make
bench-peers`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import statistics
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from load.http_callers import post_once
from load.running import run_load
from loads import MODEL, golden_scores, stream
from machine import machine_facts
from peer_tables import peer_table
from peers.catalogue import PEERS, Peer, ferserve_ways
from peers.environments import NotInstalledError, install, versions
from rounds import add_time_options, how_run, medians, tell
from servers import (
    NotStartedError,
    RunningServer,
    copy_model,
    free_port,
    is_listening,
    paused_between_runs,
    server_command,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from load.plan import Part

RESULTS = Path(__file__).resolve().parent / "results"
LOADS = ((1, 1), (1, 8), (1, 32), (1, 128), (32, 4))
"""Faces a call, and callers."""

_FAULTS = (NotInstalledError, NotStartedError, ConnectionError, RuntimeError)
"""What keeps one peer from being measured."""

TOLERANCE = 0.03
"""Largest difference from the golden probabilities: what bfloat16 is allowed by ferserve itself."""


@dataclass
class Running:
    """Describes a running peer.

    Attributes:
        server: Its processes.
        resumed: Lets them run for the time of a block.
        worst_score_error: The largest difference of its scores from the golden ones.
        parts: The loads for it, by name.
        runs: The figures of each load so far.
    """

    server: RunningServer
    resumed: Callable[[], AbstractContextManager[None]]
    worst_score_error: float
    parts: dict[str, Part]
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def ask(address: str, part: Part) -> bytes:
    """Sends one call and returns the answer.

    Raises:
        ConnectionError: There was none; the text has the reason.
    """
    try:
        if part.kind == "http":
            status, body = asyncio.run(post_once(address, part))
            if status != 200:
                raise ConnectionError(f"HTTP {status}: {body[:200]!r}")
            return body
        with grpc.insecure_channel(address) as channel:
            call: Any = channel.unary_unary(part.path)
            answer: bytes = call(part.message, timeout=60)
            return answer
    except (OSError, TimeoutError, ValueError, grpc.RpcError) as error:
        raise ConnectionError(str(error)) from error


def answers(peer: Peer, address: str) -> bool:
    """Returns whether a call is answered."""
    if not is_listening(address):
        return False
    try:
        ask(address, peer.part(1, 1))
    except ConnectionError:
        return False
    return True


def worst_score_error(peer: Peer, address: str) -> float:
    """Returns the largest difference of its scores of 32 faces from the golden ones."""
    scores = peer.read(ask(address, peer.part(32, 1)))
    return float(np.abs(scores - golden_scores(32)).max())


def parts_of(peer: Peer) -> list[Part]:
    """Returns the loads for a peer; ferserve's own interface also has streams."""
    parts = [peer.part(faces, callers) for faces, callers in LOADS]
    if peer.part is ferserve_ways()[0].part:
        parts += [stream(1, 32), stream(32, 4)]
    return parts


@contextmanager
def running_peer(peer: Peer) -> Iterator[Running]:
    """Runs a server whose answers are right until the block is left.

    Raises:
        NotInstalledError, NotStartedError, ConnectionError, RuntimeError: It cannot be measured.
    """
    if peer.environment:
        install(peer.environment, peer.interpreter)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        work, port = Path(folder), free_port()
        address = f"127.0.0.1:{port}"
        if not peer.environment:
            copy_model(MODEL, work / "models")
        start = peer.start(port, work)
        log_path = Path(folder) / "peer.log"
        with server_command(
            start.command, address, lambda at: answers(peer, at), log_path, env=start.env, cwd=start.cwd
        ) as server:
            error = worst_score_error(peer, address)
            if not error < TOLERANCE:
                raise NotStartedError(f"its scores differ from the golden ones by {error:.3f}")
            with paused_between_runs(server) as resumed:
                yield Running(server, resumed, error, {part.name: part for part in parts_of(peer)})


def measure_all(peers: list[Peer], options: argparse.Namespace) -> tuple[dict[str, Running], dict[str, str]]:
    """Starts all of them, and sends each load to each alternately: a machine's change of pace changes all.

    Returns:
        Those that were measured, and why others could not be.
    """
    running: dict[str, Running] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        for peer in peers:
            try:
                running[peer.name] = stack.enter_context(running_peer(peer))
            except _FAULTS as error:
                missing[peer.name] = str(error)
                print(f"{peer.name}: {error}", flush=True)
        for load in dict.fromkeys(name for each in running.values() for name in each.parts):
            for resumed in range(options.rounds):
                for name in list(running)[:: 1 if resumed % 2 == 0 else -1]:
                    if name in missing or load not in running[name].parts:
                        continue
                    try:
                        measure_load(name, running[name], load, options)
                    except _FAULTS as error:
                        missing[name] = str(error)
                        print(f"{name}: {error}", flush=True)
    return {name: each for name, each in running.items() if name not in missing}, missing


def measure_load(name: str, running: Running, load: str, options: argparse.Namespace) -> None:
    """Sends one load once."""
    times = {"warm_s": options.warm_s, "measure_s": options.measure_s}
    server = running.server
    with running.resumed():
        figures = run_load(server.address, server.pid, server.tag, (running.parts[load],), **times)
    tell(load, name, figures)
    running.runs.setdefault(load, []).append(figures)


def summary(peer: Peer, measured: Running) -> dict[str, Any]:
    """Computes the medians of a peer's rounds."""
    return {
        "interface": peer.interface,
        "versions": versions(peer.environment) if peer.environment else {},
        "worst_score_error": round(measured.worst_score_error, 5),
        "loads": {load: medians(runs) for load, runs in measured.runs.items()},
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_time_options(parser, rounds=3, measure_s=1.5, warm_s=0.5)
    parser.add_argument(
        "--only", action="append", help="a peer by the name of its environment, or ferserve; repeat"
    )
    parser.add_argument("--install-only", action="store_true", help="make the environments and measure nothing")
    parser.add_argument("--ferserve-flags", default="", help="further flags of ferserve in all its rows")
    parser.add_argument("--output", type=Path, default=RESULTS / "peers.json")
    options = parser.parse_args()
    wanted = options.only or ["ferserve", *(peer.environment for peer in PEERS)]
    ours = ferserve_ways(tuple(shlex.split(options.ferserve_flags)))
    peers = [peer for peer in (*ours, *PEERS) if (peer.environment or "ferserve") in wanted]
    if options.install_only:
        for peer in peers:
            if peer.environment:
                try:
                    install(peer.environment, peer.interpreter)
                except NotInstalledError as error:
                    print(f"{peer.name}: {error}", flush=True)
        return
    measured, missing = measure_all(peers, options)
    shares = [run["other_work_share"] for each in measured.values() for runs in each.runs.values() for run in runs]
    document = {
        **machine_facts(),
        **how_run("peer_comparison.py", options),
        "model": MODEL.parent.name,
        "other_work_share": round(statistics.fmean(shares), 3) if shares else 0.0,
        "peers": {peer.name: summary(peer, measured[peer.name]) for peer in peers if peer.name in measured},
        "not_measured": missing,
    }
    print("\n".join(peer_table(document)))
    options.output.write_text(json.dumps(document, indent=1) + "\n")
    os._exit(0)  # gRPC's threads may keep the interpreter from ending


if __name__ == "__main__":
    main()
