"""Runs inside the engine process: loads and validates a version, and runs batches on threads."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Precision, ServableId
from ferserve_server.engine.messages import (
    BatchKind,
    BatchMessage,
    answer,
    pack,
    read,
    read_description,
    rejection,
    unpack,
)
from ferserve_server.ipc.channel import ChannelClosedError
from ferserve_server.ipc.child_process import lower_priority
from ferserve_server.ipc.shared_memory import SharedBlock, SlotLayout
from ferserve_server.models.manifest import GOLDEN_PATH

if TYPE_CHECKING:
    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.ports import Loader, Servable
    from ferserve_server.engine.messages import Fields
    from ferserve_server.ipc.channel import Channel
    from ferserve_server.ipc.child_process import MainThread

log = structlog.get_logger(__name__)


class Worker:
    """Answers requests one after the other, and runs batches on threads of their own, until its channels close.

    Requests, by what they `do`: `load` a version and keep it under a number, `share` memory and start the threads,
    `predict` what is in slot 0, `read_golden` into memory of its own, `with_precision`, `warm_executors`,
    `reserve_session` and `close` as in `domain.ports.Servable`.
    """

    def __init__(self, loader: Loader, main_thread: MainThread, requests: Channel, batches: Channel) -> None:
        self._loader = loader
        self._main_thread = main_thread
        self._requests = requests
        self._batches = batches
        self._servables: dict[int, Servable] = {}
        self._faces: list[CropBatch] = []
        self._scores: list[Scores] = []

    def answer_requests(self) -> None:
        """Answers requests until the channel closes.

        It runs on a thread of its own, which lowers its priority permanently on request.
        """
        try:
            while True:
                message, fds = self._requests.receive_with_fds()
                sent_fds: list[int] = []
                try:
                    reply = answer(self._do(read(message), fds, sent_fds))
                except Exception as error:  # noqa: BLE001 - raised on the other side
                    reply = rejection(error)
                self._requests.send(reply, sent_fds)
                for fd in sent_fds:
                    os.close(fd)
        except ChannelClosedError:
            return

    def _do(self, fields: Fields, fds: list[int], sent_fds: list[int]) -> Fields:
        do = fields["do"]
        if fields.get("low_priority"):
            lower_priority()
        if do == "load":
            return self._load(fields)
        if do == "share":
            self._share(fields, fds[0])
            return {}
        handle = fields["handle"]
        servable = self._servables[handle]
        if do == "read_golden":
            row_count, fd = _shared_golden(servable, Path(fields["directory"]))
            sent_fds.append(fd)
            return {"row_count": row_count}
        if do == "predict":
            row_count = fields["row_count"]
            self._scores[0][:row_count] = servable.predict(self._faces[0][:row_count])
        elif do == "with_precision":
            made = self._servables[fields["new_handle"]] = servable.with_precision(Precision(fields["precision"]))
            return {"executor_count": made.executor_count}
        elif do == "warm_executors":
            servable.warm_executors(fields["bucket_sizes"], fields["thread_count"])
        elif do == "reserve_session":
            servable.reserve_session(fields["bucket_sizes"])
        elif do == "close":
            del self._servables[handle]
            servable.close()
        else:
            raise ValueError(f"unknown request {do!r}")
        return {}

    def _load(self, fields: Fields) -> Fields:
        servable_id, description = ServableId(*fields["id"]), read_description(fields["description"])
        servable = self._loader.load(servable_id, Path(fields["directory"]), description)
        self._servables[fields["handle"]] = servable
        return {"executor_count": servable.executor_count}

    def _share(self, fields: Fields, fd: int) -> None:
        block = SharedBlock(fd, SlotLayout(**fields["layout"]))
        description = next(iter(self._servables.values())).description
        rows, spec = fields["largest_batch"], description.input
        slots = range(block.layout.slot_count)
        self._faces = [block.faces(slot, (rows, spec.height, spec.width, 1)) for slot in slots]
        self._scores = [block.scores(slot, (rows, description.score_column_count)) for slot in slots]
        block.close()  # the arrays keep the memory
        self._main_thread.do(lambda: self._start_executors(fields["executor_count"]))

    def _start_executors(self, count: int) -> None:
        for number in range(count):
            threading.Thread(target=self._run_batches, name=f"infer-{number}", daemon=True).start()

    def _run_batches(self) -> None:
        try:
            while True:
                self._batches.send(pack(self._run(unpack(self._batches.receive()))))
        except ChannelClosedError:
            return

    def _run(self, batch: BatchMessage) -> BatchMessage:
        slot, row_count = batch.slot, batch.row_count
        started_ns = time.perf_counter_ns()
        try:
            self._scores[slot][:row_count] = self._servables[batch.handle].predict(self._faces[slot][:row_count])
        except Exception as error:
            log.exception("engine raised", faces=row_count)
            return batch._replace(kind=BatchKind.FAILED, text=repr(error))
        return batch._replace(kind=BatchKind.SCORED, duration_ns=time.perf_counter_ns() - started_ns)


def _shared_golden(servable: Servable, directory: Path) -> tuple[int, int]:
    """Reads a golden set into shared memory; returns its face count and the memory's descriptor.

    Raises:
        ModelRejectedError: GOLDEN_MISSING or GOLDEN_INVALID.
    """
    golden = servable.read_golden(directory)
    count, label_count = len(golden.faces), len(servable.description.labels)
    if golden.scores.shape != (count, label_count):
        raise ModelRejectedError("GOLDEN_INVALID", f"{GOLDEN_PATH} has scores of shape {golden.scores.shape}.")
    block = SharedBlock.create(SlotLayout(1, golden.faces.nbytes, count * label_count * 4))
    block.faces(0, golden.faces.shape)[:] = golden.faces
    block.scores(0, golden.scores.shape)[:] = golden.scores
    fd = os.dup(block.fd)
    block.close()
    return count, fd
