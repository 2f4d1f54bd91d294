"""Supervises the engine process of a loaded version, and restarts it."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_server.domain.errors import EngineLostError, ModelRejectedError
from ferserve_server.domain.servable import GoldenSet
from ferserve_server.engine.messages import AnswerInvalidError, read_count
from ferserve_server.engine.process import EngineEndedError, StepLimitError
from ferserve_server.engine.setup import (
    LOADED_HANDLE,
    MAX_EXECUTORS,
    WarmState,
    load_version,
    share_block,
    warm_as,
)
from ferserve_server.engine.standby import Standbys
from ferserve_server.ipc.shared_memory import SharedBlock, SlotLayout
from ferserve_server.models.golden import MAX_GOLDEN_FACES
from ferserve_server.models.manifest import read_manifest, verify_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import Precision
    from ferserve_server.engine.messages import Fields
    from ferserve_server.engine.process import EngineProcess
    from ferserve_server.engine.setup import Version

_VALIDATION_SLOT: Final = 0
"""Slot of `predict`, which is for validation; the others are for the batches of clients."""

_RESTART_WAIT_S: Final = 120.0
"""Maximum wait of a validation for an active engine that is being restarted, in seconds."""


@dataclass(frozen=True, slots=True)
class Spawning:
    """Configures how an engine starts its processes.

    Attributes:
        spawn: Starts one; its argument is True if it yields to live traffic.
        lower_priority: Returns True if validation must yield the processor to live traffic now.
        standby_count: Processes to keep ready for one that is lost, 0 or more.
    """

    spawn: Callable[[bool], EngineProcess]
    lower_priority: Callable[[], bool]
    standby_count: int = 0


class Engine:
    """Runs one loaded version in a process of its own, with shared memory.

    The process may crash and be restarted; users of it go through this object. Thread-safety: any thread, but for
    `enter_service` and `lost`, which are the event loop's.

    Attributes:
        executor_count: Batches that run at once.
        standbys: Processes ready to replace a crashed one.
        serving: True if it answers clients. Its process is restarted after a crash, and validations on it wait for
            that; others yield to it.
    """

    def __init__(
        self,
        version: Version,
        largest_batch: int,
        process: EngineProcess,
        spawning: Spawning,
        *,
        low_priority: bool,
    ) -> None:
        """Loads the version in a process.

        Args:
            version: The version to load.
            largest_batch: Rows of the largest batch.
            process: The first process; closed by this object, and ended if it cannot be used.
            spawning: Starts others.
            low_priority: True if loading yields the processor to live traffic.

        Raises:
            ModelRejectedError: The version may not be served, or its process ended (ENGINE_LOST, LOAD_TIMED_OUT,
                LOAD_OUT_OF_MEMORY).
        """
        self.version = version
        self.largest_batch = largest_batch
        self.serving = False
        self._spawn = spawning.spawn
        self._needs_low_priority = spawning.lower_priority
        self._changed = threading.Condition()
        self._predicting = threading.Lock()
        self._closed = False
        self._precisions = {LOADED_HANDLE: version.description.precision}
        self._used = LOADED_HANDLE
        self._used_sizes: Sequence[int] = ()
        self._reserved_sizes: Sequence[int] = ()
        self.standbys = Standbys(spawning.standby_count, self._make_standby, str(version.id))
        with contextlib.ExitStack() as opened:
            opened.callback(process.end)
            try:
                self.executor_count = load_version(process, version, low_priority=low_priority)
                self._block = SharedBlock.create(self._layout())
                opened.callback(self._block.close)
                self._share(process)
            except AnswerInvalidError as error:
                process.kill()
                raise self._load_rejection(error) from error
            except EngineEndedError as error:
                raise self._load_rejection(error) from error
            opened.pop_all()
        self._process: EngineProcess | None = process

    @property
    def process(self) -> EngineProcess | None:
        """Returns the process, or None while there is none."""
        return self._process

    @property
    def standby_ready(self) -> bool:
        """Returns whether a standby process is ready."""
        return self.standbys.ready_count > 0

    def resident_bytes(self) -> int:
        """Returns the resident memory of its process, in bytes; 0 while there is none."""
        process = self._process
        return process.resident_bytes() if process is not None else 0

    @property
    def batch_slots(self) -> range:
        """Returns the slots for the batches of clients."""
        return range(_VALIDATION_SLOT + 1, self._block.layout.slot_count)

    def faces(self, slot: int) -> npt.NDArray[np.uint8]:
        """Returns the memory for the faces of a slot, uint8 [largest_batch, H, W, 1]."""
        spec = self.version.description.input
        return self._block.faces(slot, (self.largest_batch, spec.height, spec.width, 1))

    def scores(self, slot: int) -> npt.NDArray[np.float32]:
        """Returns the memory for the scores of a slot, float32 [largest_batch, K]."""
        return self._block.scores(slot, (self.largest_batch, self.version.description.score_column_count))

    def predict(self, handle: int, crops: CropBatch) -> Scores:
        """Scores faces, uint8 [N, H, W, 1], apart from the batches of clients. Blocking."""
        parts = []
        with self._predicting:
            for start in range(0, len(crops), self.largest_batch):
                part = crops[start : start + self.largest_batch]
                self.faces(_VALIDATION_SLOT)[: len(part)] = part
                self._call("predict", handle=handle, row_count=len(part))
                parts.append(self.scores(_VALIDATION_SLOT)[: len(part)].copy())
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def read_golden(self, directory: Path) -> GoldenSet:
        """Reads the golden set in the process, which unpacks it; its memory is shared with this one."""
        spec, labels = self.version.description.input, self.version.description.labels
        try:
            answer, fds = self._call_with_fds("read_golden", handle=LOADED_HANDLE, directory=str(directory))
            count = read_count(answer, "row_count", MAX_GOLDEN_FACES)
            layout = SlotLayout(1, count * spec.height * spec.width, count * len(labels) * 4)
            if len(fds) != 1:
                raise AnswerInvalidError("no memory came with it")  # noqa: TRY301 - reported like the others
            block = SharedBlock(fds[0], layout)
        except (AnswerInvalidError, ValueError, OSError) as error:
            raise self._load_rejection(error) from error
        faces = block.faces(0, (count, spec.height, spec.width, 1)).copy()
        scores = block.scores(0, (count, len(labels))).copy()
        block.close()
        return GoldenSet(faces, scores)

    def with_precision(self, handle: int, precision: Precision) -> tuple[int, int]:
        """Makes the same version in another precision; returns its handle and its executor count."""
        new = max(self._precisions) + 1
        made = self._call("with_precision", handle=handle, new_handle=new, precision=precision.value)
        self._precisions[new] = precision
        return new, read_count(made, "executor_count", MAX_EXECUTORS)

    def warm_executors(self, handle: int, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Warms all executors."""
        self._call("warm_executors", handle=handle, bucket_sizes=list(bucket_sizes), thread_count=thread_count)

    def reserve_session(self, handle: int, bucket_sizes: Sequence[int]) -> None:
        """Prepares a session for one `predict` beside the executors."""
        self._call("reserve_session", handle=handle, bucket_sizes=list(bucket_sizes))
        self._reserved_sizes = tuple(bucket_sizes)

    def enter_service(self, handle: int, bucket_sizes: Sequence[int]) -> None:
        """Records the served configuration, so that it can be restored after a crash. Event loop only."""
        self._used, self._used_sizes = handle, tuple(bucket_sizes)
        self.serving = True
        self.standbys.start()

    def lost(self) -> None:
        """Records that the process has ended, until `restart` has made another. Event loop only."""
        with self._changed:
            self._process = None
            self._changed.notify_all()

    def restart(self) -> EngineProcess:
        """Replaces the crashed process: with a standby at once, or with a new one in seconds.

        Raises:
            ModelRejectedError: The version's files have changed, were removed, or cannot be loaded any more.
            EngineEndedError: This process ended too, or the engine was closed meanwhile.
            Exception: Any exception of the engine.
        """
        process = self.standbys.take() or self._make_process(low_priority=False)
        with self._changed:
            if not self._closed:
                self._process = process
                self._changed.notify_all()
                return process
        process.end()
        raise EngineEndedError("the version was unloaded")

    def _make_standby(self) -> EngineProcess:
        return self._make_process(low_priority=True)

    def _make_process(self, *, low_priority: bool) -> EngineProcess:
        directory = self.version.directory
        manifest = read_manifest(directory)
        if manifest.description != self.version.description:
            raise ModelRejectedError("MANIFEST_MISMATCH", "The manifest is not the one that was loaded.")
        verify_files(directory, manifest)
        process = self._spawn(low_priority)
        try:
            load_version(process, self.version, low_priority=low_priority)
            self._share(process)
            state = WarmState(self._used, self._precisions[self._used], self._used_sizes, self._reserved_sizes)
            warm_as(process, state, self.executor_count, low_priority=low_priority)
        except BaseException:
            process.kill()
            process.end()
            raise
        return process

    def close_handle(self, handle: int) -> None:
        """Closes a servable; with the last one the process ends, and all its memory is free. Blocking."""
        self._precisions.pop(handle)
        if self._precisions:
            self._call("close", handle=handle)
        else:
            self.close()

    def close(self) -> None:
        """Ends the process and frees its shared memory. A repeated call does nothing. Blocking."""
        with self._changed:
            process, self._process, self._closed = self._process, None, True
            self.serving = False
            self._changed.notify_all()
        self.standbys.close()
        if process is not None:
            process.end()
        self._block.close()

    def _layout(self) -> SlotLayout:
        spec, column_count = self.version.description.input, self.version.description.score_column_count
        face_bytes = self.largest_batch * spec.height * spec.width
        # Beside the running ones: one batch queued, one to be written, and that of `predict`.
        return SlotLayout(self.executor_count + 3, face_bytes, self.largest_batch * column_count * 4)

    def _share(self, process: EngineProcess) -> None:
        share_block(process, self._block, largest_batch=self.largest_batch, executor_count=self.executor_count)

    def _call(self, do: str, **fields: object) -> Fields:
        answer, fds = self._call_with_fds(do, **fields)
        for fd in fds:
            os.close(fd)
        return answer

    def _call_with_fds(self, do: str, **fields: object) -> tuple[Fields, list[int]]:
        """Sends a request; while serving, waits for the restart after a crash, and sends it again."""
        process = self._process
        for _ in range(3):
            if process is None:
                break
            try:
                return process.call_with_fds(do, {"low_priority": self._needs_low_priority(), **fields})
            except EngineEndedError as error:
                if not self.serving:
                    raise self._load_rejection(error) from error
                process = self._next_after(process)
        raise EngineLostError(executed=False)

    def _next_after(self, lost: EngineProcess) -> EngineProcess | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._process not in (None, lost), _RESTART_WAIT_S)
            return self._process

    def _load_rejection(self, error: BaseException) -> ModelRejectedError:
        reason = error.reason if isinstance(error, StepLimitError) else EngineLostError.reason
        text = f"Its engine's process ended while it was loaded or tried: {error}."
        rejection = ModelRejectedError(reason, text, how=str(error))
        rejection.transient = reason == EngineLostError.reason and str(error).startswith("SIGKILL")
        return rejection
