"""Starts, watches and ends an engine process.

What an engine process is told when it starts.

An engine process as the server sees it.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.engine.messages import BATCH_MESSAGE_BYTES, read, request
from ferserve_server.ipc.channel import Channel, ChannelClosedError
from ferserve_server.ipc.child_process import Child


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine process is told when it starts; the first few implement `backends.loading.LoaderOptions`.

    Attributes:
        model_repo: See `LoaderOptions`, as for the next five.
        backend: As above.
        executor_count: As above.
        intra_op_threads: As above.
        gpu_memory_limit_mib: As above.
        gpu_xla: As above.
        log_level: See `observability.logging.set_up_logging`.
        log_format: As above.
        gives_way: Whether it starts beside live traffic, and leaves the processor to that.
        loader_module: Module with the functions of `backends.loading`.
    """

    model_repo: Path
    backend: str = "tensorflow"
    executor_count: int = 0
    intra_op_threads: int = 1
    gpu_memory_limit_mib: int = 0
    gpu_xla: bool = False
    log_level: str = "info"
    log_format: str = "auto"
    gives_way: bool = False
    loader_module: str = "ferserve_server.backends.selection"

    def to_json(self) -> str:
        """Writes them down, for a command line."""
        return json.dumps(asdict(self) | {"model_repo": str(self.model_repo)})

    @classmethod
    def from_json(cls, text: str) -> EngineOptions:
        """Reads what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**fields | {"model_repo": Path(fields["model_repo"])})


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ferserve_server.engine.messages import Fields

log = structlog.get_logger(__name__)

_MODULE: Final = "ferserve_server.app.engine_main"
_GRACE_S: Final = 5.0
"""What a process may take to end once its channels are closed: it has nothing to do then."""

_HUNG_S: Final = 600.0
"""What a request may take. Loading beside live traffic that leaves no time to it takes long without a hang."""


class EngineEndedError(Exception):
    """The process ended; the text says how."""


class EngineProcess:
    """One engine process, with a channel for requests and one for batches.

    Thread-safety: `ask`, `kill` and `end` from any thread; `batches` is for the event loop alone.

    Attributes:
        batches: Takes batches and brings their answers; see `interprocess.messages`.
    """

    def __init__(self, options: EngineOptions) -> None:
        """Starts the process. It gets ready by itself, and answers `ask` once it is.

        Raises:
            OSError: The system cannot start another process.
        """
        self._requests, their_requests = Channel.pair()
        self.batches, their_batches = Channel.pair(BATCH_MESSAGE_BYTES)
        self._asking = threading.Lock()
        self._ending = threading.Lock()
        self._ended = False
        try:
            self._child = Child(_MODULE, [options.to_json()], [their_requests, their_batches])
        except BaseException:
            self._requests.close()
            self.batches.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._child.exit_code is None

    def ask(self, do: str, fields: Mapping[str, object], fds: Sequence[int] = ()) -> Fields:
        """Has the process do one of the things of `worker.Worker`, and returns its answer. Blocking.

        Raises:
            EngineEndedError: It ended before it answered.
            ModelRejectedError: The version may not be served.
            EngineRaisedError: The engine raised something else.
        """
        with self._asking:
            try:
                self._requests.send(request(do, fields), fds)
                if not self._requests.wait_readable(_HUNG_S):
                    log.error("engine hung; killed", pid=self.pid, doing=do, timeout_s=_HUNG_S)
                    self.kill()
                message = self._requests.receive()
            except ChannelClosedError:
                self._child.wait(_GRACE_S)
                raise EngineEndedError(self.describe_end()) from None
        return read(message)

    def describe_end(self) -> str:
        """How it ended, as a person would say it."""
        return self._child.describe_end()

    def resident_bytes(self) -> int:
        """Memory that it holds, in bytes; 0 once it has ended."""
        return self._child.resident_bytes()

    def kill(self) -> None:
        """Ends it at once, whatever it does. Does not wait."""
        self._child.kill()

    def end(self) -> None:
        """Closes the channels and waits for its end; kills it if that takes too long. Blocking.

        `batches` must not be on an event loop any more. Done again, it does nothing.
        """
        with self._ending:
            if self._ended:
                return
            self._ended = True
            self._requests.shut_down()  # wakes whoever asks
            self.batches.shut_down()
            self._child.end(_GRACE_S)
            with self._asking:
                self._requests.close()
            self.batches.close()
        log.debug("engine process ended", pid=self.pid, how=self.describe_end())
