"""What is wrong with a frame that a client sent, as far as it alone can tell (RFC 9113, 4.2 and 6). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferserve_server.transport.express.frames import ACK, TOO_LONG, ConnectionFault, ErrorCode, Kind

if TYPE_CHECKING:
    from ferserve_server.transport.express.frames import Frame

_LENGTHS: Final = {Kind.PRIORITY: 5, Kind.RST_STREAM: 4, Kind.PING: 8, Kind.WINDOW_UPDATE: 4}
"""Bytes of the payloads that have one length only."""

_OF_THE_CONNECTION: Final = frozenset({Kind.SETTINGS, Kind.PING, Kind.GOAWAY})


def check_control(frame: Frame) -> None:
    """Refuses a frame that is none of DATA, HEADERS and CONTINUATION, and that no client may send.

    Raises:
        ConnectionFault: Its length, its stream or its kind is wrong.
    """
    kind, length = frame.kind, len(frame.payload)
    if kind == TOO_LONG:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is longer than is taken here")
    if kind == Kind.PUSH_PROMISE:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client pushes nothing")
    if length != _LENGTHS.get(kind, length):
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{length} bytes in a frame of type {kind}")
    if kind == Kind.SETTINGS and (length % 6 or (frame.flags & ACK and length)):
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{length} bytes of SETTINGS")
    if kind in _OF_THE_CONNECTION and frame.stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a frame of type {kind} on stream {frame.stream_id}")
    if kind == Kind.WINDOW_UPDATE and not any(frame.payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window that grows by nothing")
