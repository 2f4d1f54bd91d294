"""Sends mutated exchanges from seeds to a running server, beside a client that behaves.

`python tests/protocol/socket_fuzz.py SECONDS [first seed]` sends as many as it can. They must cost the client no
answer, and leave the server no memory, no descriptor, no open call and no line in its log that tells of a failure.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from protocol.exchanges import exchange

from ferserve_client import EmotionClient
from support.fake_models import publish_fake
from support.process_memory import resident_mib
from support.server_process import run_fake_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.server_process import ServerProcess

_NEIGHBOUR_EVERY = 10
_MAX_MORE_MIB = 64.0
"""Maximum growth: bounds of received bytes, and what the allocator keeps."""

_READ_S = 0.02
_SETTLE_S = 30.0
_FACE = np.zeros((1, 48, 48), np.uint8)


@dataclass
class SocketFuzz:
    """Fuzzes a server.

    Args of the constructor:
        server: Runs.
        client: Of its service; behaves.

    Attributes:
        count: Exchanges so far.
    """

    server: ServerProcess
    client: EmotionClient
    count: int = 0

    def run(self, seeds: Iterator[int]) -> None:
        """Has the exchanges of these seeds, and checks what they left.

        Raises:
            AssertionError: They left something.
        """
        self._check_neighbour(None)
        before, memory_mib = self._gauges(), self._resident_mib()
        for seed in seeds:
            self._exchange(seed)
            self.count += 1
            if self.count % _NEIGHBOUR_EVERY == 0:
                self._check_neighbour(seed)
        self._check_neighbour(None)
        self.server.wait_until(lambda: self._settled(before), f"has no more open than before: {before}")
        more_mib = self._resident_mib() - memory_mib
        assert more_mib < _MAX_MORE_MIB, f"{more_mib:.0f} MiB more are held"
        failures = [line for line in self.server.log if _tells_of_failure(line)]
        assert not failures, failures

    def _exchange(self, seed: int) -> None:
        chosen = random.Random(seed)  # noqa: S311 - to be repeated
        data = exchange(chosen)
        host, _, port = self.server.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as peer, contextlib.suppress(OSError):
            # Errors are how the server ends a connection.
            cut = chosen.randrange(len(data) + 1)
            for part in (data[:cut], data[cut:]):
                peer.sendall(part)
            match chosen.randrange(3):
                case 0:  # the end of one direction, and what comes until then
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65_536):
                        pass
                case 1:
                    peer.settimeout(_READ_S)
                    peer.recv(65_536)
                case _:  # a TCP reset
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _check_neighbour(self, seed: int | None) -> None:
        try:
            (prediction,) = self.client.classify(_FACE, timeout_s=20)
        except Exception as error:
            raise AssertionError(f"a neighbour got no answer, at the latest after seed {seed}: {error}") from error
        assert len(prediction.scores) == 7

    def _settled(self, before: dict[str, float]) -> bool:
        found = self._gauges()
        return all(found[name] <= before[name] for name in before)

    def _gauges(self) -> dict[str, float]:
        """Open descriptors and calls."""
        with urllib.request.urlopen(self.server.metrics_url, timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        calls = [line for line in lines if line.startswith("ferserve_requests_in_progress{")]
        descriptors = len(list(Path(f"/proc/{self.server.process.pid}/fd").iterdir()))
        return {"calls": sum(float(line.split()[-1]) for line in calls), "descriptors": float(descriptors)}

    def _resident_mib(self) -> float:
        return resident_mib(self.server.process.pid)[self.server.process.pid]


def _tells_of_failure(line: str) -> bool:
    with contextlib.suppress(ValueError):
        return json.loads(line).get("level") not in {"debug", "info", "warning"}
    return True  # a traceback


@contextlib.contextmanager
def fuzzed_server() -> Iterator[SocketFuzz]:
    """Runs a server on a fake engine, and a client, until the block is left."""
    with tempfile.TemporaryDirectory() as folder:
        publish_fake(Path(folder))
        with run_fake_server(Path(folder)) as server, EmotionClient(server.address) as client:
            yield SocketFuzz(server, client)
            server.terminate()
            assert server.wait() == 0


def _seeds(seconds: float, first: int) -> Iterator[int]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield first
        first += 1


if __name__ == "__main__":
    with fuzzed_server() as fuzz:
        fuzz.run(_seeds(float(sys.argv[1]), *(map(int, sys.argv[2:3] or ["0"]))))
        print(fuzz.count, "exchanges over a socket")  # noqa: T201 - for a terminal
