"""Drives `support.ray_cluster` from the tests' own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from support.fake_models import publish_fake

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
RAY_PYTHON = ROOT / ".ray" / "bin" / "python"

START_S = 240.0
"""Longest start of the cluster, or of a replica: a node takes 10 s on an idle core, and test machines are busy."""


class RayServers:
    """Runs the cluster until the block is left, with servers that have a fake model."""

    def __init__(
        self, folder: Path, *flags: str, min_replicas: int, max_replicas: int, node_count: int = 2, proxy: int = 0
    ) -> None:
        """Notes what to start.

        Args:
            folder: Where models and logs go.
            flags: Settings of each server.
            min_replicas: Least number of servers.
            max_replicas: Greatest number of servers.
            node_count: Nodes beside the head, with room for two replicas each.
            proxy: Port of Ray's gRPC proxy; 0 for none.
        """
        publish_fake(folder / "models")
        fixed = ["--model-repo", str(folder / "models"), "--default-model", "fer-nano", "--bucket-sizes", "1,8"]
        fixed += ["--precision", "float32", "--tune", "fixed"]
        self._options = {
            "command": [sys.executable, "-m", "support.fake_engine_program"],
            "flags": [*fixed, *flags],
            "environment": {"PYTHONPATH": str(ROOT / "tests")},
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "node_count": node_count,
            "proxy": proxy,
        }
        self._log_path = folder / "ray.log"
        self._asking = threading.Lock()

    def __enter__(self) -> Self:
        program = Path(__file__).with_name("ray_cluster.py")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GRPC_"))}
        environment = {
            **inherited,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_raylet_start_wait_time_s": f"{START_S:g}",
        }
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [str(RAY_PYTHON), "-P", str(program), json.dumps(self._options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        try:
            self._answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            try:
                self._process.communicate("stop\n", timeout=90.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def servers(self) -> list[dict[str, Any]]:
        """Returns what the servers have registered."""
        found: list[dict[str, Any]] = self._ask("servers")
        return found

    def addresses(self) -> list[str]:
        """Returns HOST:PORT of each server that is registered."""
        return [each["address"] for each in self.servers()]

    def kill_node(self, node_id: str) -> None:
        """Kills a node with everything on it."""
        self._ask(f"kill {node_id}")

    def wait_until(self, condition: Callable[[list[dict[str, Any]]], bool], what: str) -> list[dict[str, Any]]:
        """Waits until the registered servers fulfil a condition, and returns them."""
        give_up_at = time.monotonic() + START_S
        while not condition(found := self.servers()):
            assert time.monotonic() < give_up_at, f"took too long until {what}: {found}"
            time.sleep(0.25)
        return found

    def _ask(self, command: str) -> Any:
        with self._asking:
            assert self._process.stdin is not None
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        raise AssertionError(f"the cluster ended:\n{self._log_path.read_text()[-4000:]}")
