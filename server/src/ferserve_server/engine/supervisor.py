"""What stands behind a loaded version: one engine process at a time, and how to bring it back."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_server.domain.errors import EngineLostError, ModelRejectedError
from ferserve_server.engine.messages import describe
from ferserve_server.engine.process import EngineEndedError
from ferserve_server.ipc.shared_memory import SharedBlock, SlotLayout
from ferserve_server.models.manifest import read_manifest, verify_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ModelDescription, Precision, ServableId
    from ferserve_server.engine.messages import Fields
    from ferserve_server.engine.process import EngineProcess

_LOADED: Final = 0
"""Number of the servable that loading makes, as it was published; others are made from it and count on."""

_OWN_SLOT: Final = 0
"""Slot of `predict`, which is for trials; the others are for the batches of callers."""

_BACK_S: Final = 120.0
"""Longest wait of a trial for an engine in force that is being restarted."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version to load: which, where it lies, and what its manifest says."""

    id: ServableId
    directory: Path
    description: ModelDescription


class Engine:
    """One loaded version in a process of its own, with the memory that both sides share.

    The process may be lost and brought back; what refers to it goes through here. Thread-safety: any thread, but
    for `enter_service` and `lost`, which are the event loop's.

    Attributes:
        executor_count: Batches that run at once.
        serving: Whether it answers callers. Its process is brought back when it is lost, and trials on it wait for
            that; others give way to it.
    """

    def __init__(
        self,
        version: Version,
        largest_batch: int,
        spawn: Callable[[bool], EngineProcess],
        give_way: Callable[[], bool],
    ) -> None:
        """Starts a process and loads the version.

        Args:
            version: What to load.
            largest_batch: Rows of the largest batch.
            spawn: Starts an engine process, or hands out one that was started ahead; is told whether it gives way.
            give_way: Whether work on trials shall leave the processor to live traffic now.

        Raises:
            ModelRejectedError: The version may not be served, or its process ended (ENGINE_LOST).
        """
        self.version = version
        self.largest_batch = largest_batch
        self.serving = False
        self._spawn = spawn
        self._give_way = give_way
        self._changed = threading.Condition()
        self._predicting = threading.Lock()
        self._closed = False
        self._precisions = {_LOADED: version.description.precision}
        self._used = _LOADED
        self._used_sizes: Sequence[int] = ()
        self._spare_sizes: Sequence[int] = ()
        gives_way = give_way()
        with contextlib.ExitStack() as opened:
            process = spawn(gives_way)
            opened.callback(process.end)
            try:
                loaded = self._load(process, gives_way=gives_way)
                self.executor_count: int = loaded["executor_count"]
                self._block = SharedBlock.create(self._layout())
                opened.callback(self._block.close)
                self._share(process)
            except EngineEndedError as error:
                raise self._lost_on_trial(error) from error
            opened.pop_all()
        self._process: EngineProcess | None = process

    @property
    def process(self) -> EngineProcess | None:
        """The process, or None while there is none."""
        return self._process

    def resident_bytes(self) -> int:
        """Memory that its process holds, in bytes; 0 while there is none."""
        process = self._process
        return process.resident_bytes() if process is not None else 0

    @property
    def batch_slots(self) -> range:
        """The slots for the batches of callers."""
        return range(_OWN_SLOT + 1, self._block.layout.slot_count)

    def faces(self, slot: int) -> npt.NDArray[np.uint8]:
        """Where the faces of a slot go, uint8 [largest_batch, H, W, 1]."""
        spec = self.version.description.input
        return self._block.faces(slot, (self.largest_batch, spec.height, spec.width, 1))

    def scores(self, slot: int) -> npt.NDArray[np.float32]:
        """Where the scores of a slot come, float32 [largest_batch, K]."""
        return self._block.scores(slot, (self.largest_batch, self.version.description.score_column_count))

    def predict(self, handle: int, crops: CropBatch) -> Scores:
        """Scores faces, uint8 [N, H, W, 1], apart from the batches of callers. Blocking."""
        parts = []
        with self._predicting:
            for start in range(0, len(crops), self.largest_batch):
                part = crops[start : start + self.largest_batch]
                self.faces(_OWN_SLOT)[: len(part)] = part
                self._ask("predict", handle=handle, row_count=len(part))
                parts.append(self.scores(_OWN_SLOT)[: len(part)].copy())
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def with_precision(self, handle: int, precision: Precision) -> tuple[int, int]:
        """Makes the same version in another precision; returns its handle and how many batches it runs at once."""
        new = max(self._precisions) + 1
        made = self._ask("with_precision", handle=handle, new_handle=new, precision=precision.value)
        self._precisions[new] = precision
        return new, made["executor_count"]

    def warm_executors(self, handle: int, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Makes all executors warm."""
        self._ask("warm_executors", handle=handle, bucket_sizes=list(bucket_sizes), thread_count=thread_count)

    def reserve_session(self, handle: int, bucket_sizes: Sequence[int]) -> None:
        """Makes ready for one `predict` beside the executors."""
        self._ask("reserve_session", handle=handle, bucket_sizes=list(bucket_sizes))
        self._spare_sizes = tuple(bucket_sizes)

    def enter_service(self, handle: int, bucket_sizes: Sequence[int]) -> None:
        """Notes what answers callers, so that the same can be brought back. Event loop only."""
        self._used, self._used_sizes = handle, tuple(bucket_sizes)
        self.serving = True

    def lost(self) -> None:
        """Notes that the process has ended, until `revive` has made another. Event loop only."""
        with self._changed:
            self._process = None
            self._changed.notify_all()

    def revive(self) -> EngineProcess:
        """Starts another process and makes it what the lost one was. Takes seconds, blocking.

        Raises:
            ModelRejectedError: The version's files have changed, are gone, or cannot be loaded any more.
            EngineEndedError: This process ended too, or the engine was closed meanwhile.
            Exception: Whatever the engine raised.
        """
        directory = self.version.directory
        manifest = read_manifest(directory)
        if manifest.description != self.version.description:
            raise ModelRejectedError("MANIFEST_MISMATCH", "The manifest is not the one that was loaded.")
        verify_files(directory, manifest)
        process = self._spawn(False)
        try:
            self._load(process, gives_way=False)
            self._share(process)
            self._warm_like_before(process)
            with self._changed:
                if self._closed:
                    raise EngineEndedError("the version was unloaded")  # noqa: TRY301 - ended below
                self._process = process
                self._changed.notify_all()
        except BaseException:
            process.end()
            raise
        return process

    def close_handle(self, handle: int) -> None:
        """Lets a servable go; with the last one the process ends, and all its memory is free. Blocking."""
        self._precisions.pop(handle)
        if self._precisions:
            self._ask("close", handle=handle)
        else:
            self.close()

    def close(self) -> None:
        """Ends the process and frees what was shared with it. Done again, it does nothing. Blocking."""
        with self._changed:
            process, self._process, self._closed = self._process, None, True
            self.serving = False
            self._changed.notify_all()
        if process is not None:
            process.end()
        self._block.close()

    def _layout(self) -> SlotLayout:
        spec, column_count = self.version.description.input, self.version.description.score_column_count
        face_bytes = self.largest_batch * spec.height * spec.width
        # Beside those that run: a batch ahead, one to be written, and `predict`'s own.
        return SlotLayout(self.executor_count + 3, face_bytes, self.largest_batch * column_count * 4)

    def _load(self, process: EngineProcess, *, gives_way: bool) -> Fields:
        version = self.version
        fields = {
            "gives_way": gives_way,
            "id": version.id,
            "directory": str(version.directory),
            "description": describe(version.description),
            "handle": _LOADED,
        }
        return process.ask("load", fields)

    def _share(self, process: EngineProcess) -> None:
        fields = {
            "layout": asdict(self._block.layout),
            "largest_batch": self.largest_batch,
            "executor_count": self.executor_count,
        }
        process.ask("share", fields, [self._block.fd])

    def _warm_like_before(self, process: EngineProcess) -> None:
        handle, sizes = self._used, list(self._used_sizes)
        if handle != _LOADED:
            precision = self._precisions[handle].value
            process.ask("with_precision", {"handle": _LOADED, "new_handle": handle, "precision": precision})
            process.ask("close", {"handle": _LOADED})
        for size in sizes:
            process.ask("predict", {"handle": handle, "row_count": size})
        threads = self.executor_count
        process.ask("warm_executors", {"handle": handle, "bucket_sizes": sizes, "thread_count": threads})
        if self._spare_sizes:
            process.ask("reserve_session", {"handle": handle, "bucket_sizes": list(self._spare_sizes)})

    def _ask(self, do: str, **fields: object) -> Fields:
        """Asks the process; while it serves, waits for one that was lost to come back, and asks that."""
        process = self._process
        for _ in range(3):
            if process is None:
                break
            try:
                return process.ask(do, {"gives_way": self._give_way(), **fields})
            except EngineEndedError as error:
                if not self.serving:
                    raise self._lost_on_trial(error) from error
                process = self._next_after(process)
        raise EngineLostError(executed=False)

    def _next_after(self, lost: EngineProcess) -> EngineProcess | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._process not in (None, lost), _BACK_S)
            return self._process

    def _lost_on_trial(self, error: BaseException) -> ModelRejectedError:
        return ModelRejectedError(
            EngineLostError.reason,
            f"Its engine's process ended while it was loaded or tried: {error}.",
            how=str(error),
        )
