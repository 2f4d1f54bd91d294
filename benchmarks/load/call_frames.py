"""Builds a gRPC call as HTTP/2 frames, once for all calls except for the stream's number. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from load.frames import (
    END_STREAM,
    PREFACE,
    Kind,
    Setting,
    literal,  # MERGE
    write_frame,
    write_headers,
    write_prefix,  # MERGE
    write_settings,
    write_window_update,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_WINDOW: Final = 2**31 - 1
"""Maximum bytes of answers in transit, because no server should wait for the load."""

FIRST_WINDOW: Final = 65_535
"""Bytes that may be sent before the peer's settings (RFC 9113, 6.9.2)."""

_POST, _HTTP = b"\x83", b"\x86"
"""Lines 3 and 6 of HPACK's static table: :method and :scheme."""

_MAX_TIMEOUT: Final = 99_999_999
"""A grpc-timeout has eight digits at most."""


def beginning() -> bytes:
    """Returns the first bytes of a connection."""
    settings = write_settings({Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW})
    return PREFACE + settings + write_window_update(0, MAX_WINDOW - FIRST_WINDOW)


def header_block(address: str, path: str, timeout_s: float) -> bytes:
    """Encodes the headers of a call, the same bytes every time: none of them changes HPACK's table.

    Args:
        address: HOST:PORT.
        path: /package.Service/Method.
        timeout_s: Deadline that the call states, in seconds; rounded to milliseconds.
    """
    timeout_ms = min(_MAX_TIMEOUT, max(1, round(timeout_s * 1e3)))
    return b"".join(
        (
            _POST,
            _HTTP,
            literal(b":path", path.encode()),
            literal(b":authority", address.encode()),
            literal(b"te", b"trailers"),
            literal(b"content-type", b"application/grpc"),
            literal(b"grpc-timeout", b"%dm" % timeout_ms),
        )
    )


class CallFrames:
    """Builds the frames of a call on any stream.

    Args of the constructor:
        block: Its headers.
        message: What it sends.

    Attributes:
        byte_count: Bytes of its DATA, which count against the peer's windows.
    """

    def __init__(self, block: bytes, message: bytes) -> None:
        self._block = block
        self._data = memoryview(write_prefix(len(message)) + message)
        self.byte_count = len(self._data)

    def headers(self, stream_id: int) -> bytes:
        """Returns the HEADERS frame."""
        return write_headers(stream_id, self._block, 0)

    def data(self, stream_id: int, at: int, room: int, max_frame_bytes: int) -> Sequence[bytes | memoryview]:
        """Returns the DATA frames from byte `at` on, not copied, up to the window; the last ends the stream.

        Args:
            stream_id: Number of the stream.
            at: Bytes that were sent.
            room: Bytes that may be sent now; none may be sent without.
            max_frame_bytes: Longest payload that the peer takes.
        """
        pieces: list[bytes | memoryview] = []
        stop = min(at + max(0, room), self.byte_count)
        while at < stop:
            piece = self._data[at : min(at + max_frame_bytes, stop)]
            at += len(piece)
            flags = END_STREAM if at == self.byte_count else 0
            # Of a frame without payload all but its length.
            pieces += (len(piece).to_bytes(3) + write_frame(Kind.DATA, flags, stream_id)[3:], piece)
        return pieces
