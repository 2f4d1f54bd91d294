"""Header blocks that come in more than one frame (RFC 9113, 4.3 and 6.10). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.transport.express.frames import ConnectionFault, ErrorCode, Kind

if TYPE_CHECKING:
    from ferserve_server.transport.express.frames import Frame


class BlockAssembly:
    """Puts the pieces of one block together. Nothing else may come between them.

    Args of the constructor:
        max_bytes: Bound on a block.

    Attributes:
        since: Since when a block is under way that is not complete, in seconds; None if none is.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._first: Frame | None = None
        self._block = b""
        self.since: float | None = None

    def begin(self, first: Frame, block: bytes, now: float) -> None:
        """Notes a HEADERS frame that does not end its block, and its piece of the block."""
        self._first, self._block, self.since = first, block, now

    def check(self, frame: Frame) -> None:
        """Makes sure that a frame may come now, if a block is under way.

        Raises:
            ConnectionFault: It may not.
        """
        if self._first is not None and (
            frame.kind != Kind.CONTINUATION or frame.stream_id != self._first.stream_id
        ):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is not complete")

    def add(self, piece: bytes) -> None:
        """Adds the piece of a CONTINUATION frame.

        Raises:
            ConnectionFault: No block is under way, or it is too long.
        """
        if self._first is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block += piece
        if len(self._block) > self._max_bytes:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM, f"a header block of more than {self._max_bytes} bytes"
            )

    def end(self) -> tuple[Frame, bytes]:
        """Returns the frame that the block began with, and the block. One must be under way."""
        first, block = self._first, self._block
        assert first is not None  # noqa: S101 - for the types
        self._first, self._block, self.since = None, b"", None
        return first, block
