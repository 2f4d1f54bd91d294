"""Bounds the memory of all pictures that are decoded at once, estimated from their headers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ferserve_server.domain.errors import LimitExceededError
from ferserve_vision.decode_cost import decode_bytes, decode_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferserve_vision.formats.header import ImageHeader


class DecodeBudget:
    """Limits memory and time for decoding. Thread-safe.

    Decoders cannot be interrupted, so a picture that would take too long is rejected by its header.
    """

    def __init__(self, *, max_bytes: int, max_s: float) -> None:
        """Creates the budget.

        Args:
            max_bytes: Memory of all pictures that are decoded at once; one that needs more alone is
                rejected.
            max_s: Estimated time of one picture, on a core of 2020, beyond which it is rejected.
        """
        self._max_bytes = max_bytes
        self._max_s = max_s
        self._free_bytes = max_bytes
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, header: ImageHeader, byte_count: int, reduction: int) -> Iterator[None]:
        """Holds the memory of one picture of `byte_count` bytes; waits until other threads have returned enough.

        Raises:
            LimitExceededError: IMAGE_TOO_LARGE, by memory or by time.
        """
        need, seconds = decode_bytes(header, reduction), decode_ns(header, byte_count) / 1e9
        name = f"{header.width}x{header.height} {header.format.value}"
        if need > self._max_bytes:
            raise LimitExceededError(
                "IMAGE_TOO_LARGE",
                what=f"MiB to decode a picture ({name})",
                value=-(-need // 2**20),
                limit=self._max_bytes // 2**20,
                setting="max_decode_mib",
                field="",
            )
        if seconds > self._max_s:
            raise LimitExceededError(
                "IMAGE_TOO_LARGE",
                what=f"Estimated milliseconds to decode a picture ({name}, {header.scan_count} scans)",
                value=round(seconds * 1e3),
                limit=round(self._max_s * 1e3),
                setting="max_decode_s",
                field="",
            )
        with self._changed:
            self._changed.wait_for(lambda: need <= self._free_bytes)
            self._free_bytes -= need
        try:
            yield
        finally:
            with self._changed:
                self._free_bytes += need
                self._changed.notify_all()
