"""Lays out and allocates memory that two processes share.

Memory that two processes share, in slots: faces go one way in it, scores come back.

Which places of a block of memory are taken. Pure bookkeeping: it touches no memory.
"""

from __future__ import annotations

import bisect
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
"""Slots begin on a page of their own: two processes never write to the same cache line."""


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """How a block is divided; both sides must be told the same.

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
        """Where the scores begin in a slot, in bytes."""
        return _whole_pages(self.face_bytes)

    @property
    def slot_bytes(self) -> int:
        """Size of a slot, in bytes."""
        return self.scores_at + _whole_pages(self.score_bytes)

    @property
    def block_bytes(self) -> int:
        """Size of the whole block, in bytes. Pages that were never written take no memory."""
        return self.slot_count * self.slot_bytes


class SharedBlock:
    """Memory without a name, mapped by every process that has its file descriptor.

    The system frees it when the last of them is gone, however that ended: nothing is left behind. Arrays made
    here stay valid after `close`; the mapping goes with the last of them.

    Thread-safety: any thread; who writes to which slot when is up to the two sides.

    Attributes:
        fd: File descriptor to give to another process. It is closed with this object, and -1 then.
        layout: How it is divided.
    """

    def __init__(self, fd: int, layout: SlotLayout) -> None:
        """Maps the memory behind a file descriptor, and takes the descriptor over; see `create`.

        Raises:
            ValueError: The memory is smaller than the layout says.
        """
        self.fd = fd
        self.layout = layout
        self._memory: mmap.mmap | None = None
        try:
            self._memory = mmap.mmap(fd, layout.block_bytes)  # refuses less memory than that
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def create(cls, layout: SlotLayout) -> Self:
        """Makes new memory, filled with zeros."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("ferserve", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as unnamed:
                fd = os.dup(unnamed.fileno())
        try:
            os.ftruncate(fd, layout.block_bytes)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, layout)

    def faces(self, slot: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """The faces of a slot, uint8 in `shape`, not copied: what is written here, the other side sees."""
        memory, at = self._room(slot, shape, 1, 0, self.layout.face_bytes)
        return np.ndarray(shape, np.uint8, buffer=memory, offset=at)

    def scores(self, slot: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """The scores of a slot, float32 in `shape`, not copied."""
        memory, at = self._room(slot, shape, 4, self.layout.scores_at, self.layout.score_bytes)
        return np.ndarray(shape, np.float32, buffer=memory, offset=at)

    def close(self) -> None:
        """Closes the file descriptor and lets go of the mapping. Done again, it does nothing."""
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
    """Which slots are free. The one used last is taken first: its memory is still in the caches.

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


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


ALIGNMENT_BYTES: Final = 64
"""Places start at multiples of a cache line, so that two processes do not write to the same one."""


class BlockAllocator:
    """Hands out places in a block: the lowest that fits, so that little memory is touched. Not thread-safe.

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
        """Takes a place of so many bytes, 1 or more, and returns its offset; None: there is no such place."""
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
