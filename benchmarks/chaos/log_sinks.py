"""Breaks the log's sink in each way, then kills the engine and stops the server."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc
from engine_losses import engines_of
from loads import ROOT

from chaos.callers import CLASSIFY

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 60.0


def run(seconds: float, work: Path) -> dict[str, Any]:
    """Tries each sink once; `seconds` is not needed."""
    del seconds
    sys.path.insert(0, str(ROOT / "tests"))
    from support.log_sinks import SINKS, server_with_sink  # noqa: PLC0415 - of the tests

    models = work / "models"
    models.mkdir()
    (models / "fer-nano").symlink_to(ROOT / "model_repo" / "fer-nano")
    found = {}
    for sink in SINKS:
        with server_with_sink(sink, models) as server:
            server.wait_ready()
            os.kill(min(engines_of(server.process.pid)), signal.SIGKILL)
            recovered_s = answered_after_s(server.address)
            started_s = time.monotonic()
            exit_code = server.stop()
            found[sink] = {
                "recovered_s": round(recovered_s, 2),
                "exit_code": exit_code,
                "stopped_s": round(time.monotonic() - started_s, 2),
            }
    return found


def answered_after_s(address: str) -> float:
    """Calls until there is an answer, and returns the seconds.

    Raises:
        TimeoutError: There was none within `PATIENCE_S`.
    """
    started_s = time.monotonic()
    with grpc.insecure_channel(address, [("grpc.enable_retries", 0)]) as channel:
        method: Any = channel.unary_unary("/ferserve.v1.EmotionService/ClassifyFaces")
        while time.monotonic() - started_s < PATIENCE_S:
            try:
                method(CLASSIFY, timeout=5)
            except grpc.RpcError:
                time.sleep(0.02)
                continue
            return time.monotonic() - started_s
    raise TimeoutError("no answer")
