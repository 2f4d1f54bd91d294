"""Brings an engine process to the point where it serves a version: load, share memory, warm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from ferserve_server.engine.messages import describe, read_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ferserve_server.domain.servable import ModelDescription, Precision, ServableId
    from ferserve_server.engine.process import EngineProcess
    from ferserve_server.ipc.shared_memory import SharedBlock

LOADED_HANDLE: Final = 0
"""Number of the servable made by loading, as it was published; others are made from it and count on."""

MAX_EXECUTORS: Final = 1024
"""Maximum number of batches at once, because each has a slot of shared memory."""


@dataclass(frozen=True, slots=True)
class Version:
    """Identifies a version to load: its id, folder and manifest description."""

    id: ServableId
    directory: Path
    description: ModelDescription


@dataclass(frozen=True, slots=True)
class WarmState:
    """Represents the configuration that a process serves with.

    Attributes:
        handle: Number of the servable.
        precision: Its precision.
        bucket_sizes: Batch sizes that it is used in.
        reserved_sizes: Batch sizes of the session beside the executors; empty for none.
    """

    handle: int
    precision: Precision
    bucket_sizes: Sequence[int] = ()
    reserved_sizes: Sequence[int] = ()


def load_version(process: EngineProcess, version: Version, *, low_priority: bool) -> int:
    """Loads a version in a process; returns the number of batches that it runs at once. Blocking.

    Raises:
        AnswerInvalidError: That number is none.
        Exception: See `EngineProcess.call`.
    """
    fields = {
        "low_priority": low_priority,
        "id": version.id,
        "directory": str(version.directory),
        "description": describe(version.description),
        "handle": LOADED_HANDLE,
    }
    return read_count(process.call("load", fields), "executor_count", MAX_EXECUTORS)


def share_block(process: EngineProcess, block: SharedBlock, *, largest_batch: int, executor_count: int) -> None:
    """Shares the memory for faces and scores with a process and starts its executors. Blocking.

    Raises:
        Exception: See `EngineProcess.call`.
    """
    fields = {"layout": asdict(block.layout), "largest_batch": largest_batch, "executor_count": executor_count}
    process.call("share", fields, [block.fd])


def warm_as(process: EngineProcess, state: WarmState, executor_count: int, *, low_priority: bool) -> None:
    """Prepares a process that has loaded a version to serve as another one did. Blocking.

    Raises:
        Exception: See `EngineProcess.call`.
    """

    def call(do: str, **fields: object) -> None:
        process.call(do, {"low_priority": low_priority, **fields})

    handle, sizes = state.handle, list(state.bucket_sizes)
    if handle != LOADED_HANDLE:
        call("with_precision", handle=LOADED_HANDLE, new_handle=handle, precision=state.precision.value)
        call("close", handle=LOADED_HANDLE)
    if not low_priority:  # first runs for the slot of `predict`, on a thread without client requests
        for size in sizes:
            call("predict", handle=handle, row_count=size)
    threads = 1 if low_priority else executor_count
    call("warm_executors", handle=handle, bucket_sizes=sizes, thread_count=threads)
    if state.reserved_sizes:
        call("reserve_session", handle=handle, bucket_sizes=list(state.reserved_sizes))
