"""Lays out and allocates memory that two processes share.

Slots hold faces in one direction and scores in the other. Allocation is pure bookkeeping that touches no memory.
"""

from __future__ import annotations

import bisect
import fcntl
import math
import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


_PAGE: Final = 4096
"""Size of a page, in bytes; slots are page-aligned, because two processes must never write to one cache line."""


_SEALS: Final = (
    (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL) if hasattr(fcntl, "F_SEAL_SHRINK") else 0
)
"""Seals that fix the size, because shrinking memory that another process has mapped would end it with SIGBUS."""


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """Defines the division of a block; both sides must use the same.

    Attributes:
        slot_count: Slots, 1 or more.
        face_bytes: Room for faces in each, in bytes: rows x height x width.
        score_bytes: Room for scores in each, in bytes: rows x labels x 4.
    """

    slot_count: int
    face_bytes: int
    score_bytes: int

    @property
    def scores_at(self) -> int:
        """Returns the offset of the scores in a slot, in bytes."""
        return _whole_pages(self.face_bytes)

    @property
    def slot_bytes(self) -> int:
        """Returns the size of a slot, in bytes."""
        return self.scores_at + _whole_pages(self.score_bytes)

    @property
    def block_bytes(self) -> int:
        """Returns the size of the whole block, in bytes. Pages that were never written take no memory."""
        return self.slot_count * self.slot_bytes


class SharedBlock:
    """Maps anonymous memory that every process with its file descriptor can map.

    The system frees it when the last of them has ended, however it ended: nothing is left behind. Arrays made here
    stay valid after `close`; the mapping is removed with the last of them.

    Thread-safety: any thread; the two sides coordinate writes to slots.

    Attributes:
        fd: File descriptor to give to another process. It is closed with this object, and -1 then.
        layout: Its division into slots.
    """

    def __init__(self, fd: int, layout: SlotLayout) -> None:
        """Maps the memory behind a file descriptor, and takes the descriptor over; see `create`.

        Raises:
            ValueError: The memory has not the size that the layout says, or its size is not sealed.
        """
        self.fd = fd
        self.layout = layout
        self._memory: mmap.mmap | None = None
        try:
            _check_size(fd, layout.block_bytes)
            self._memory = mmap.mmap(fd, layout.block_bytes)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def create(cls, layout: SlotLayout) -> Self:
        """Creates new memory, filled with zeros."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("ferserve", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            with tempfile.TemporaryFile() as unnamed:
                fd = os.dup(unnamed.fileno())
        try:
            os.fchmod(fd, 0o600)  # memfd_create(2) gives 0777; others may open it in /proc
            os.ftruncate(fd, layout.block_bytes)
            if _SEALS:
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, layout)

    def faces(self, slot: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Returns the faces of a slot, uint8 in `shape`, not copied: the other side sees what is written here."""
        memory, at = self._room(slot, shape, 1, 0, self.layout.face_bytes)
        return np.ndarray(shape, np.uint8, buffer=memory, offset=at)

    def scores(self, slot: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Returns the scores of a slot, float32 in `shape`, not copied."""
        memory, at = self._room(slot, shape, 4, self.layout.scores_at, self.layout.score_bytes)
        return np.ndarray(shape, np.float32, buffer=memory, offset=at)

    def close(self) -> None:
        """Closes the file descriptor and drops the mapping. A repeated call does nothing."""
        if self._memory is not None:
            self._memory = None
            os.close(self.fd)
            self.fd = -1

    def _room(
        self, slot: int, shape: tuple[int, ...], item_bytes: int, offset: int, room: int
    ) -> tuple[mmap.mmap, int]:
        if not (0 <= slot < self.layout.slot_count and 0 <= math.prod(shape) * item_bytes <= room):
            raise ValueError(f"slot {slot} has no room for {list(shape)}")
        if self._memory is None:
            raise ValueError("the shared memory is closed")
        return self._memory, slot * self.layout.slot_bytes + offset


class FreeSlots:
    """Tracks the free slots, last used first: its memory is still in the caches.

    Kept by one side only, the one that fills the slots with faces. Not thread-safe: event loop only.
    """

    def __init__(self, slot_count: int) -> None:
        self._free = list(reversed(range(slot_count)))
        self._taken: set[int] = set()

    def __len__(self) -> int:
        return len(self._free)

    def take(self) -> int | None:
        """Takes a slot, or None if all are in use."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._taken.add(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """Makes a slot free again.

        Raises:
            KeyError: It was not taken.
        """
        self._taken.remove(slot)
        self._free.append(slot)


def _check_size(fd: int, size: int) -> None:
    """Rejects memory of another size, or whose size its sender can change."""
    if os.fstat(fd).st_size != size:
        raise ValueError(f"the memory has {os.fstat(fd).st_size} bytes, not {size}")
    if _SEALS and fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        raise ValueError("the memory is not sealed")


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


ALIGNMENT_BYTES: Final = 64
"""Alignment of places, in bytes: a cache line, so that two processes do not write to the same one."""


class BlockAllocator:
    """Allocates places in a block: the lowest that fits, so that little memory is touched. Not thread-safe.

    Attributes:
        size: Bytes of the block.
        taken: Bytes of it that are taken.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._starts = [0]
        self._ends = [size]

    def take(self, byte_count: int) -> int | None:
        """Allocates 1 byte or more, and returns the offset; None if no place fits."""
        wanted = _rounded(byte_count)
        for index, start in enumerate(self._starts):
            end = self._ends[index]
            if end - start < wanted:
                continue
            if end - start == wanted:
                del self._starts[index], self._ends[index]
            else:
                self._starts[index] = start + wanted
            self.taken += wanted
            return start
        return None

    def give_back(self, offset: int, byte_count: int) -> None:
        """Frees a place; both numbers are those of `take`."""
        size = _rounded(byte_count)
        self.taken -= size
        start, end = offset, offset + size
        index = bisect.bisect_left(self._starts, start)
        joins_next = index < len(self._starts) and self._starts[index] == end
        joins_last = index > 0 and self._ends[index - 1] == start
        if joins_last and joins_next:
            self._ends[index - 1] = self._ends[index]
            del self._starts[index], self._ends[index]
        elif joins_last:
            self._ends[index - 1] = end
        elif joins_next:
            self._starts[index] = start
        else:
            self._starts.insert(index, start)
            self._ends.insert(index, end)


def _rounded(byte_count: int) -> int:
    return -(-byte_count // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
