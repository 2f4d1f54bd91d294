"""Fills every port with idle connections, and kills the engine meanwhile."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from pathlib import Path
from typing import Any, Final

from engine_losses import engines_of

from chaos.log_sinks import answered_after_s
from chaos.targets import ferserve

TRIED: Final = 1_500
"""Connections that are tried at each port."""


def run(seconds: float, work: Path) -> dict[str, Any]:
    """Opens the connections, kills, and calls from another loopback address; `seconds` is not needed."""
    del seconds
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ferserve(work / "server.log") as target, contextlib.ExitStack() as stack:
        kept = {
            name: _fill(address, stack)
            for name, address in (("gRPC", target.address), ("HTTP", target.http), ("metrics", target.metrics))
        }
        descriptors = sum(1 for _ in Path(f"/proc/{target.process.pid}/fd").iterdir())
        os.kill(min(engines_of(target.process.pid)), signal.SIGKILL)
        recovered_s = answered_after_s(target.address)
        stopped_s = target.stop()
        return {
            "tried_per_port": TRIED,
            "kept": kept,
            "descriptors": descriptors,
            "recovered_s": round(recovered_s, 2),
            "stopped_s": round(stopped_s, 2),
            "exit_code": target.exit_codes[-1],
        }


def _fill(address: str, stack: contextlib.ExitStack) -> int:
    """Opens connections that say nothing; returns how many the server keeps."""
    host, _, port = address.rpartition(":")
    opened = []
    for _ in range(TRIED):
        with contextlib.suppress(OSError):
            opened.append(stack.enter_context(socket.create_connection((host, int(port)), timeout=2)))
    kept = 0
    for each in opened:
        each.setblocking(False)
        try:
            kept += each.recv(65_536) != b""
        except BlockingIOError:
            kept += 1
        except OSError:
            continue
    return kept
