"""Which places of a block of memory are taken. Pure bookkeeping: it touches no memory."""

from __future__ import annotations

import bisect
from typing import Final

ALIGNMENT_BYTES: Final = 64
"""Places start at multiples of a cache line, so that two processes do not write to the same one."""


class Arena:
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
