"""Isolates faces that were running when an engine process crashed, and rejects those that crash it again.

A caller, and the retries of its libraries, resend a face that crashes the engine. Each crash costs all callers the
time of a restart, and those whose batches ran an error. So the rows of a lost batch become suspects, whichever
caller sends them. A request with a suspect in it runs while nothing else does, the suspect in a batch of its own.
A suspect that is answered is cleared; one that crashes the engine again is convicted, and fails without being run.
So a poisonous face costs two crashes, however often it is sent (docs/adr/0032).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.ports import DispatchReason
from ferserve_server.scheduler.entry import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.scheduler.entry import Entry, Slice

_MAX_SUSPECTS: Final = 4096
"""Maximum remembered rows: those of 32 lost batches of 128. The oldest are forgotten first."""

_FORGET_AFTER_S: Final = 600.0
"""Seconds after which a row is trusted again, because something else may have killed the engine both times,
and the operator may have loaded a version that handles it.
"""

_MAX_ISOLATED: Final = 512
"""Maximum batches that wait in quarantine. One of a single face takes about a millisecond."""

Fingerprint = bytes


class Suspects:
    """Remembers rows by their fingerprints. Event loop only."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Fingerprint, tuple[float, bool]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._seen)

    def accuse(self, batch: Batch, now: float) -> None:
        """Marks the rows of a batch that crashed the engine; `now` in seconds."""
        alone = batch.reason is DispatchReason.QUARANTINE and batch.row_count == 1
        for part in batch.slices:
            for fingerprint in fingerprints(part.rows):
                known = self._seen.pop(fingerprint, None)
                self._seen[fingerprint] = (now, known is not None and (alone or known[1]))
        while len(self._seen) > _MAX_SUSPECTS:
            self._seen.popitem(last=False)

    def clear(self, batch: Batch) -> None:
        """Clears the rows of a batch that was answered."""
        for part in batch.slices:
            for fingerprint in fingerprints(part.rows):
                self._seen.pop(fingerprint, None)

    def sort_out(self, crops: CropBatch, now: float) -> tuple[list[int], list[int]]:
        """Finds the suspect rows of a request, and the convicted ones.

        Args:
            crops: uint8 [N, H, W, 1].
            now: The time, in seconds.
        """
        while self._seen and now - next(iter(self._seen.values()))[0] > _FORGET_AFTER_S:
            self._seen.popitem(last=False)
        suspects: list[int] = []
        convicted: list[int] = []
        if self._seen:
            for row, fingerprint in enumerate(fingerprints(crops)):
                known = self._seen.get(fingerprint)
                if known is not None:
                    (convicted if known[1] else suspects).append(row)
        return suspects, convicted


class Quarantine:
    """Holds the batches that run alone, in order. Event loop only."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()

    def __bool__(self) -> bool:
        return bool(self._batches)

    @property
    def full(self) -> bool:
        """Returns whether it accepts no more requests."""
        return len(self._batches) >= _MAX_ISOLATED

    def add(self, batches: Sequence[Batch]) -> None:
        """Adds batches."""
        self._batches.extend(batches)

    def next(self) -> Batch | None:
        """Removes the next batch that a caller waits for, or returns None."""
        while self._batches:
            batch = self._batches.popleft()
            if any(not part.entry.done for part in batch.slices):
                return batch
        return None

    def take_all(self) -> list[Batch]:
        """Removes all batches."""
        batches = list(self._batches)
        self._batches.clear()
        return batches


def isolated_batches(
    entry: Entry, suspects: Sequence[int], convicted: Sequence[int], largest: int, now: float
) -> list[Batch]:
    """Splits a request into one batch per suspect, without the convicted rows.

    Args:
        entry: The request; all of its rows are taken out.
        suspects: Rows that run alone.
        convicted: Rows that do not run.
        largest: Rows of the largest batch.
        now: The time, in seconds.
    """
    alone, left_out = frozenset(suspects), frozenset(convicted)
    batches: list[Batch] = []
    run: Slice | None = None
    for row in range(len(entry.crops)):
        part = entry.take(1)
        if row in left_out:
            run = None
        elif row in alone:
            run = None
            batches.append(Batch([part], DispatchReason.QUARANTINE, now))
        elif run is None or run.count == largest:
            run = part
            batches.append(Batch([run], DispatchReason.QUARANTINE, now))
        else:
            run.count += 1
    return batches


def fingerprints(crops: CropBatch) -> list[Fingerprint]:
    """Computes fingerprints of uint8 [N, H, W, 1] rows: 3 us each of 48x48 pixels, and only after a crash."""
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in crops]
