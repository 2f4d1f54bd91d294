"""Starts, monitors and ends an engine process, and passes it its options."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.engine.messages import BATCH_MESSAGE_BYTES, AnswerInvalidError, read, request
from ferserve_server.engine.step_limits import StepUse, exceeded_limit, longest_delay_s
from ferserve_server.ipc.channel import Channel, ChannelClosedError
from ferserve_server.ipc.child_process import Child
from ferserve_server.runtime.process_output import child_stderr


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Configures an engine process; the first fields implement `backends.selection.LoaderOptions`.

    Attributes:
        model_repo: See `LoaderOptions`, as for the next five.
        backend: As above.
        executor_count: As above.
        intra_op_threads: As above.
        gpu_memory_limit_mib: As above.
        gpu_xla: As above.
        log_level: See `telemetry.logging.set_up_logging`.
        log_format: As above; json or console.
        log_framed: True if the server reads its stderr, and takes framed records.
        low_priority: True if it starts beside live traffic, and yields the processor to that.
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
    log_framed: bool = False
    low_priority: bool = False
    loader_module: str = "ferserve_server.backends.selection"

    def to_json(self) -> str:
        """Encodes them as JSON, for a command line."""
        return json.dumps(asdict(self) | {"model_repo": str(self.model_repo)})

    @classmethod
    def from_json(cls, text: str) -> EngineOptions:
        """Decodes the JSON of `to_json`."""
        fields = json.loads(text)
        return cls(**fields | {"model_repo": Path(fields["model_repo"])})


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ferserve_server.engine.messages import Fields
    from ferserve_server.engine.step_limits import StepLimits

log = structlog.get_logger(__name__)

_MODULE: Final = "ferserve_server.app.engine_main"
_GRACE_S: Final = 5.0
"""Maximum time for a process to end after its channels are closed, in seconds; it has nothing to do then."""

_DELAYS_INTERVAL_S: Final = 1.0
"""Interval at which the threads of a process are asked for their waits for a processor, in seconds, because there
may be hundreds."""

_POLL_INTERVAL_S: Final = 0.05
"""Interval at which a loading step is compared with its limits, in seconds, because an allocating process gains
some 200 MiB meanwhile."""


class EngineEndedError(Exception):
    """Reports that the process ended; the text says how."""


class StepLimitError(EngineEndedError):
    """Reports that a step exceeded a limit and its process was ended; `reason` is that of `ModelRejectedError`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class EngineProcess:
    """Runs one engine process, with a channel for requests and one for batches.

    Thread-safety: `call`, `kill` and `end` from any thread; `batches` is for the event loop alone.

    Attributes:
        batches: Takes batches and brings their answers; see `engine.messages`.
    """

    def __init__(self, options: EngineOptions, limits: StepLimits) -> None:
        """Starts the process. It gets ready by itself, and answers `call` once it is.

        Args:
            options: Its options.
            limits: Limits of each `call`.

        Raises:
            OSError: The system cannot start another process.
        """
        self._requests, their_requests = Channel.pair()
        self.batches, their_batches = Channel.pair(BATCH_MESSAGE_BYTES)
        self._limits = limits
        self._calling = threading.Lock()
        self._ending = threading.Lock()
        self._ended = False
        facts: dict[str, object] = {"process": "engine"}
        try:
            with child_stderr(facts) as stderr:
                options_json = replace(options, log_framed=stderr is not None).to_json()
                self._child = Child(_MODULE, [options_json], [their_requests, their_batches], stderr)
            facts["pid"] = self._child.pid
        except BaseException:
            self._requests.close()
            self.batches.close()
            raise

    @property
    def pid(self) -> int:
        """Returns its process id."""
        return self._child.pid

    @property
    def runs(self) -> bool:
        """Returns whether it has not ended."""
        return self._child.exit_code is None

    def call(self, do: str, fields: Mapping[str, object], fds: Sequence[int] = ()) -> Fields:
        """Requests one operation of `worker.Worker`, and returns its answer. Blocking.

        Raises:
            StepLimitError: It took too long or too much memory, and was killed.
            EngineEndedError: It ended before it answered.
            ModelRejectedError: The version may not be served.
            EngineRaisedError: Another exception of the engine.
        """
        answer, received = self.call_with_fds(do, fields, fds)
        for fd in received:
            os.close(fd)
        return answer

    def call_with_fds(
        self, do: str, fields: Mapping[str, object], fds: Sequence[int] = ()
    ) -> tuple[Fields, list[int]]:
        """Does the same, and returns the received file descriptors, which the caller closes."""
        with self._calling:
            fault = None
            try:
                self._requests.send(request(do, fields), fds)
                fault = self._wait_for_answer(low_priority=bool(fields.get("low_priority")))
                message, received = self._requests.receive_with_fds()
            except ChannelClosedError:
                self._child.wait(_GRACE_S)
                if fault is not None:
                    raise StepLimitError(*fault) from None
                raise EngineEndedError(self.describe_end()) from None
        try:
            return read(message), received
        except BaseException as error:
            for fd in received:
                os.close(fd)
            if isinstance(error, AnswerInvalidError):
                log.error(  # noqa: TRY400 - its trace says nothing of the engine
                    "engine sent no valid answer; killed", pid=self.pid, doing=do, error=str(error)
                )
                self.kill()
                raise EngineEndedError(f"it sent no valid answer: {error}") from error
            raise

    def _wait_for_answer(self, *, low_priority: bool) -> tuple[str, str] | None:
        """Waits for an answer; kills the process, and returns why, if a limit is exceeded before."""
        started_at, cpu_s = time.monotonic(), self._child.cpu_s()
        starved_s, checked_at, delays_s = 0.0, started_at, self._child.run_delays_s()
        while not self._requests.wait_readable(_POLL_INTERVAL_S):
            now = time.monotonic()
            if now - checked_at >= _DELAYS_INTERVAL_S:
                before_s, delays_s = delays_s, self._child.run_delays_s()
                starved_s += longest_delay_s(before_s, delays_s, now - checked_at)
                checked_at = now
            elapsed_s, used_s = now - started_at - starved_s, self._child.cpu_s() - cpu_s
            use = StepUse(elapsed_s, used_s, self._child.resident_bytes())
            fault = exceeded_limit(use, self._limits, low_priority=low_priority)
            if fault is not None:
                self.kill()
                return fault
        return None

    def describe_end(self) -> str:
        """Describes how it ended, in words."""
        return self._child.describe_end()

    def resident_bytes(self) -> int:
        """Returns its resident memory, in bytes; 0 once it has ended."""
        return self._child.resident_bytes()

    def kill(self) -> None:
        """Kills it at once, regardless of its work. Does not wait."""
        self._child.kill()

    def end(self) -> None:
        """Closes the channels and waits for its end; kills it if that takes too long. Blocking.

        `batches` must not be on an event loop any more. A repeated call does nothing.
        """
        with self._ending:
            if self._ended:
                return
            self._ended = True
            self._requests.shut_down()  # wakes waiting callers of `call`
            self.batches.shut_down()
            self._child.end(_GRACE_S)
            with self._calling:
                self._requests.close()
            self.batches.close()
        log.debug("engine process ended", pid=self.pid, how=self.describe_end())
