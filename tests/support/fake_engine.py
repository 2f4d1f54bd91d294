"""Plays an engine process for the test: the peer of `EngineExecutor`, without a process."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.servable import ServableId
from ferserve_server.engine.messages import BATCH_MESSAGE_BYTES, BatchKind, BatchMessage, pack, unpack
from ferserve_server.ipc.channel import Channel, ChannelClosedError
from ferserve_server.ipc.shared_memory import SharedBlock, SlotLayout
from support.batching import DESCRIPTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


class FakeProcess:
    """One life of the engine. The test takes batches with `take` and answers them, or ends it."""

    def __init__(self) -> None:
        self.batches, self.theirs = Channel.pair(BATCH_MESSAGE_BYTES)
        self.pid = 1

    def take(self) -> BatchMessage:
        """The next batch that was sent; waits for it."""
        return unpack(self.theirs.receive())

    def kill(self) -> None:
        """Ends it, as a real one would end."""
        self.theirs.shut_down()

    def end(self) -> None:
        """Closes both ends."""
        self.theirs.close()
        self.batches.close()

    def describe_end(self) -> str:
        """Nothing to tell."""
        return "the test ended it"


class FakeEngine:
    """Plays `backends.engine.engine.Engine` and `EngineServable` at once.

    Attributes:
        lives: Every process that there was.
        restart_errors: What the next restarts raise; it is used up.
    """

    def __init__(self, executor_count: int = 1, largest_batch: int = 8) -> None:
        self.engine = self
        self.id = ServableId("net", 1)
        self.description = DESCRIPTION
        self.handle = 5
        self.executor_count = executor_count
        self.serving = False
        self.standby_ready = False
        self.closed = threading.Event()
        self.lives = [FakeProcess()]
        self.process: FakeProcess | None = self.lives[0]
        self.restart_errors: list[Exception] = []
        layout = SlotLayout(executor_count + 3, largest_batch * 48 * 48, largest_batch * 7 * 4)
        self._largest_batch = largest_batch
        self._block = SharedBlock.create(layout)
        self.batch_slots = range(1, layout.slot_count)

    @property
    def life(self) -> FakeProcess:
        """The process that there is, or was last."""
        return self.lives[-1]

    def faces(self, slot: int) -> np.ndarray:
        """See `Engine`."""
        return self._block.faces(slot, (self._largest_batch, 48, 48, 1))

    def scores(self, slot: int) -> np.ndarray:
        """See `Engine`."""
        return self._block.scores(slot, (self._largest_batch, 7))

    def enter_service(self, handle: int, bucket_sizes: Sequence[int]) -> None:
        """See `Engine`."""
        assert handle == self.handle
        self.serving = True

    def lost(self) -> None:
        """See `Engine`."""
        self.process = None

    def restart(self) -> FakeProcess:
        """A new life, or the next of `restart_errors`."""
        if self.restart_errors:
            raise self.restart_errors.pop(0)
        self.lives.append(FakeProcess())
        self.process = self.life
        return self.life

    def close(self) -> None:
        """Notes that it was closed."""
        if self.process is not None:
            self.process.end()
            self.process = None
        self._block.close()
        self.closed.set()

    def answer(self, batch: BatchMessage) -> None:
        """Scores a batch as `FakeServable` would, in place."""
        self.scores(batch.slot)[: batch.row_count] = fake_scores(self.faces(batch.slot)[: batch.row_count], 7)
        self.life.theirs.send(pack(batch._replace(kind=BatchKind.SCORED, duration_ns=1_000_000)))

    def fail(self, batch: BatchMessage) -> None:
        """Says that a batch raised."""
        self.life.theirs.send(pack(batch._replace(kind=BatchKind.FAILED, text="poison")))

    def work(self) -> threading.Thread:
        """Answers everything that is sent, on a thread, until the process ends."""
        life = self.life

        def answer_all() -> None:
            with contextlib.suppress(ChannelClosedError, OSError):
                while True:
                    self.answer(unpack(life.theirs.receive()))

        thread = threading.Thread(target=answer_all, daemon=True)
        thread.start()
        return thread
