"""Keeps several servers on fixed loopback addresses and restarts them one after the other."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import numpy as np

from ferserve_client import NO_RETRIES, EmotionClient
from support.fake_models import publish_fake
from support.server_process import ServerProcess, run_fake_server

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from ferserve_client import RetryPolicy

FACE = np.zeros((1, 48, 48), np.uint8)


def free_address() -> str:
    """HOST:PORT of a loopback port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Servers:
    """Runs servers with a fake model, each on an address that it has again after a restart.

    Attributes:
        addresses: HOST:PORT of each.
        repositories: The model folder of each.
        running: The server at each address.
    """

    def __init__(self, repository: Path, count: int, *flags: str) -> None:
        """Notes what to start.

        Args:
            repository: A folder for the model folders.
            count: Number of servers.
            flags: Settings of each.
        """
        self.addresses = [free_address() for _ in range(count)]
        self.repositories = {address: repository / str(index) for index, address in enumerate(self.addresses)}
        for each in self.repositories.values():
            publish_fake(each)
        self.running: dict[str, ServerProcess] = {}
        self._flags = flags

    def __enter__(self) -> Self:
        with ExitStack() as started:
            for address in self.addresses:
                self.start(address)
                started.callback(self.running[address].__exit__, None, None, None)
            started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.running.values():
            server.__exit__(None, None, None)

    def start(self, address: str) -> None:
        """Starts the server of an address and waits until it serves."""
        self.running[address] = run_fake_server(
            self.repositories[address], "--listen", address, *self._flags
        ).__enter__()

    def stop(self, address: str) -> int:
        """Stops the server of an address as an operator does, and returns its exit code."""
        self.running[address].terminate()
        return self.wait_for_end(address)

    def wait_for_end(self, address: str) -> int:
        """Waits for the end of a server that was asked to stop, and returns its exit code."""
        server = self.running.pop(address)
        try:
            return server.wait(60.0)
        finally:
            server.__exit__(None, None, None)


class Callers:
    """Sends single calls from threads until the block is left.

    Attributes:
        answered: Calls that were answered so far.
        errors: Failures so far.
    """

    def __init__(
        self,
        address: str,
        *,
        count: int = 3,
        pause_s: float = 0.01,
        face: np.ndarray = FACE,
        retry: RetryPolicy = NO_RETRIES,
    ) -> None:
        """Notes the load.

        Args:
            address: HOST:PORT, or several with commas.
            count: Threads, each with a connection of its own and one call at a time.
            pause_s: Time between two calls of a thread.
            face: What each call sends, uint8 [1, 48, 48].
            retry: Which calls are tried again, if any.
        """
        self.answered = 0
        self.errors: list[Exception] = []
        self._address = address
        self._pause_s = pause_s
        self._face = face
        self._retry = retry
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int, timeout_s: float = 60.0) -> None:
        """Waits until this many further calls were answered."""
        wanted, give_up_at = self.answered + more, time.monotonic() + timeout_s
        while self.answered < wanted:
            assert time.monotonic() < give_up_at, f"{self.answered} calls answered, errors: {self.errors[:5]}"
            time.sleep(0.02)

    def _call(self) -> None:
        with EmotionClient(self._address, timeout_s=20.0, retry=self._retry) as client:
            while not self._stop.wait(self._pause_s):
                try:
                    client.classify(self._face)
                    self.answered += 1
                except Exception as error:  # noqa: BLE001 - counted
                    self.errors.append(error)
