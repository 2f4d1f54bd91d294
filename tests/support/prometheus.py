"""Runs the real Prometheus on a configuration, and its tools."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


def find_tool(name: str) -> str:
    """Where `prometheus` or `promtool` is: in .tools/bin or on the PATH; skips the test if nowhere."""
    path = os.pathsep.join([str(ROOT / ".tools" / "bin"), os.environ.get("PATH", "")])
    return shutil.which(name, path=path) or pytest.skip(f"there is no {name}: run 'make tools'")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus that runs."""

    url: str

    def get(self, path: str, parameters: dict[str, str]) -> Any:
        """The `data` of an answer of the HTTP API.

        Raises:
            AssertionError: It answered with an error; holds its text.
        """
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now: each with `metric`, its labels, and `value`."""
        return self.get("query", {"query": expression})["result"]

    def wait_for(self, expression: str, timeout_s: float = 60.0) -> None:
        """Polls until the expression has a series."""
        poll(lambda: bool(self.query(expression)), f"nothing came of {expression}", timeout_s)


@contextmanager
def running_prometheus(configuration: Path, data: Path) -> Iterator[Prometheus]:
    """Runs Prometheus on a free loopback port until the block ends."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        find_tool("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data / 'series'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    log = data / "prometheus.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            poll(
                lambda: _is_ready(process, f"http://{address}/-/ready", log), "Prometheus does not get ready", 30.0
            )
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()


def poll(is_done: Callable[[], bool], complaint: str, timeout_s: float) -> None:
    """Asks ten times a second until it is done; fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not is_done():
        assert time.monotonic() < deadline, f"{complaint} within {timeout_s:g} s"
        time.sleep(0.1)


def _is_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
