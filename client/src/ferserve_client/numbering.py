"""Numbers the frames of a stream."""

from __future__ import annotations

from ferserve_client.answers import Frame


class FrameNumbering:
    """Numbers frames that come without a number: from the first number on, or one after the frame before.

    Not thread-safe: one stream, one object.

    Args:
        first_id: Lowest number of the first frame, 0 or more.
    """

    def __init__(self, first_id: int = 0) -> None:
        self._next_id = first_id

    def number(self, item: bytes | Frame) -> Frame:
        """Return the item as a frame with a number.

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
