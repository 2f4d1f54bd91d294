"""Gives the frames of a stream their numbers."""

from __future__ import annotations

from ferserve_client.answers import Frame


class FrameNumbering:
    """Numbers frames that come without a number: from 0, or one after the frame before.

    Not thread-safe: one stream, one object.
    """

    def __init__(self) -> None:
        self._next_id = 0

    def number(self, item: bytes | Frame) -> Frame:
        """The item as a frame with a number.

        Raises:
            TypeError: The item is neither bytes nor a `Frame`.
            ValueError: The number of a `Frame` does not rise.
        """
        if isinstance(item, bytes):
            item = Frame(self._next_id, item)
        elif not isinstance(item, Frame):
            raise TypeError(f"a frame must be bytes or Frame, not {type(item).__name__}")
        if item.sequence_id < self._next_id:
            raise ValueError(f"sequence_id {item.sequence_id} must be at least {self._next_id}: ids rise")
        self._next_id = item.sequence_id + 1
        return item
