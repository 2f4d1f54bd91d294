"""Tests the rules for frames of HTTP/2 (RFC 9113, 3, 4, 6 and 7), at both servers over a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.http2_frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    ErrorCode,
    Kind,
    Setting,
    write_frame,
    write_go_away,
    write_reset,
    write_settings,
)
from support.protocol_rules import (
    Rule,
    answered,
    connection_error,
    ignored,
    opened,
    parameters,
    play,
    raw,
    stream_error,
)
from support.raw_peer import DUPLEX_CALL, EMPTY_MESSAGE, RawPeer, request

if TYPE_CHECKING:
    from collections.abc import Callable


E = ErrorCode
_CLOSED: Final = (E.STREAM_CLOSED, E.PROTOCOL_ERROR)


def _split_block(peer: RawPeer, *between: bytes) -> bytes:
    block = peer.encoder.encode(request())
    return (
        write_frame(Kind.HEADERS, 0, 1, block[:10])
        + b"".join(between)
        + write_frame(Kind.CONTINUATION, 0, 1, block[10:20])
        + write_frame(Kind.CONTINUATION, END_HEADERS, 1, block[20:])
        + peer.last()
    )


def _padded(peer: RawPeer) -> bytes:
    block = peer.encoder.encode(request())
    headers = write_frame(Kind.HEADERS, END_HEADERS | PADDED, 1, bytes([7]) + block + bytes(7))
    return headers + write_frame(Kind.DATA, END_STREAM | PADDED, 1, bytes([9]) + EMPTY_MESSAGE + bytes(9))


def _padded_with_priority(peer: RawPeer) -> bytes:
    block = peer.encoder.encode(request())
    flags = END_HEADERS | PADDED | PRIORITY_FLAG
    return write_frame(Kind.HEADERS, flags, 1, bytes([7]) + bytes(5) + block + bytes(7)) + peer.last()


def _frame_size(kind: int, beyond: int) -> Callable[[RawPeer], bytes]:
    def send(peer: RawPeer) -> bytes:
        size = peer.settings.get(Setting.MAX_FRAME_SIZE, 16_384) + beyond
        if kind == Kind.DATA:
            return peer.headers(request(DUPLEX_CALL)) + write_frame(kind, 0, 1, bytes(size))
        return write_frame(kind, END_HEADERS, 1, bytes(size))

    return send


def _longest_data(peer: RawPeer) -> bytes:
    size = min(peer.settings.get(Setting.MAX_FRAME_SIZE, 16_384), 65_535)
    message = b"\0" + (size - 5).to_bytes(4) + b"\x1a" + _varint(size - 9) + b"\x12" + _varint(size - 13)
    return peer.headers(request(DUPLEX_CALL)) + peer.last(1, message + bytes(size - len(message)))


def _varint(number: int) -> bytes:
    """A number of 15 to 21 bits in three bytes, as protobuf writes it."""
    return bytes([number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14])


def _answered_in_full_after_go_away(peer: RawPeer) -> None:
    answer = peer.answer()
    assert answer.status == "0", answer


def _first_frame_is_settings(peer: RawPeer) -> None:
    assert peer.frames[0].kind == Kind.SETTINGS
    assert not peer.frames[0].flags & ACK


def _acknowledged(peer: RawPeer) -> None:
    assert peer.alive()
    assert sum(frame.kind == Kind.SETTINGS and bool(frame.flags & ACK) for frame in peer.frames) == 3


def _echoed(peer: RawPeer) -> None:
    assert peer.alive()
    pongs = [frame.payload for frame in peer.frames if frame.kind == Kind.PING and frame.flags & ACK]
    assert pongs[0] == b"8 bytes."


def _not_echoed(peer: RawPeer) -> None:
    assert peer.alive()
    assert sum(frame.kind == Kind.PING and bool(frame.flags & ACK) for frame in peer.frames) == 1


PING: Final = write_frame(Kind.PING, 0, 0, b"8 bytes.")

RULES = [
    Rule("3.4", "the server's preface is a SETTINGS frame", raw(), _first_frame_is_settings),
    Rule("4.1", "frames of unknown types are ignored", raw(write_frame(0xFA, 0, 0, bytes(8))), ignored),
    Rule("4.1", "flags without meaning are ignored", raw(write_frame(Kind.PING, 0x16, 0, bytes(8))), ignored),
    Rule("4.1", "the reserved bit is ignored", raw(write_frame(Kind.PING, 0, 2**31, bytes(8))), ignored),
    Rule("4.2", "frames of the longest size are read", _longest_data, answered),
    Rule("4.2", "longer DATA is a FRAME_SIZE_ERROR", _frame_size(Kind.DATA, 1), stream_error(E.FRAME_SIZE_ERROR)),
    Rule("4.2", "longer HEADERS are one", _frame_size(Kind.HEADERS, 1), connection_error(E.FRAME_SIZE_ERROR)),
    Rule(
        "4.3",
        "a header block that cannot be decoded is a COMPRESSION_ERROR",
        raw(write_frame(Kind.HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff")),
        connection_error(E.COMPRESSION_ERROR),
    ),
    Rule(
        "4.3",
        "other frames within a header block end the connection",
        lambda peer: _split_block(peer, PING),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "4.3",
        "frames of other streams within a header block end the connection",
        lambda peer: _split_block(peer, write_frame(Kind.PRIORITY, 0, 3, bytes(5))),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule("6.1", "DATA of stream 0", raw(write_frame(Kind.DATA, 0, 0, b"x")), connection_error(E.PROTOCOL_ERROR)),
    Rule(
        "6.1",
        "DATA with more padding than payload",
        opened(write_frame(Kind.DATA, PADDED, 1, b"\x09x")),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule("6.2", "HEADERS and DATA may be padded", _padded, answered),
    Rule("6.2", "HEADERS may be padded and have a priority", _padded_with_priority, answered),
    Rule(
        "6.2",
        "HEADERS of stream 0",
        lambda peer: peer.headers(request(), 0),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.2",
        "HEADERS with more padding than payload",
        raw(write_frame(Kind.HEADERS, PADDED | END_HEADERS, 1, b"\x09x")),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.3",
        "PRIORITY of stream 0",
        raw(write_frame(Kind.PRIORITY, 0, 0, bytes(5))),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.3",
        "PRIORITY of another length than 5",
        opened(write_frame(Kind.PRIORITY, 0, 1, bytes(4))),
        stream_error(E.FRAME_SIZE_ERROR),
    ),
    Rule("6.4", "RST_STREAM of stream 0", raw(write_reset(0, E.CANCEL)), connection_error(E.PROTOCOL_ERROR)),
    Rule(
        "6.4",
        "RST_STREAM of another length than 4",
        opened(write_frame(Kind.RST_STREAM, 0, 1, bytes(3))),
        connection_error(E.FRAME_SIZE_ERROR),
    ),
    Rule(
        "6.5",
        "SETTINGS of a stream",
        raw(write_frame(Kind.SETTINGS, 0, 1)),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.5",
        "an acknowledgement with a payload",
        raw(write_frame(Kind.SETTINGS, ACK, 0, bytes(6))),
        connection_error(E.FRAME_SIZE_ERROR),
    ),
    Rule(
        "6.5",
        "SETTINGS of another length than six for each",
        raw(write_frame(Kind.SETTINGS, 0, 0, bytes(5))),
        connection_error(E.FRAME_SIZE_ERROR),
    ),
    Rule(
        "6.5.2",
        "ENABLE_PUSH above 1",
        raw(write_settings({Setting.ENABLE_PUSH: 2})),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.5.2",
        "INITIAL_WINDOW_SIZE above 2^31-1",
        raw(write_settings({Setting.INITIAL_WINDOW_SIZE: 2**31})),
        connection_error(E.FLOW_CONTROL_ERROR),
    ),
    Rule(
        "6.5.2",
        "MAX_FRAME_SIZE below 2^14",
        raw(write_settings({Setting.MAX_FRAME_SIZE: 16_383})),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.5.2",
        "MAX_FRAME_SIZE above 2^24-1",
        raw(write_settings({Setting.MAX_FRAME_SIZE: 2**24})),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.5.2",
        "unknown settings are ignored",
        raw(write_frame(Kind.SETTINGS, 0, 0, b"\xff\xff\0\0\0\1")),
        ignored,
    ),
    Rule("6.5.3", "SETTINGS are acknowledged, each", raw(write_settings({}) * 2), _acknowledged),
    Rule(
        "6.6",
        "PUSH_PROMISE",
        opened(write_frame(Kind.PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2")),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule("6.7", "PING is answered with its payload", raw(PING), _echoed),
    Rule(
        "6.7",
        "an acknowledgement of PING is not answered",
        raw(write_frame(Kind.PING, ACK, 0, bytes(8))),
        _not_echoed,
    ),
    Rule(
        "6.7", "PING of a stream", raw(write_frame(Kind.PING, 0, 1, bytes(8))), connection_error(E.PROTOCOL_ERROR)
    ),
    Rule(
        "6.7",
        "PING of another length than 8",
        raw(write_frame(Kind.PING, 0, 0, bytes(6))),
        connection_error(E.FRAME_SIZE_ERROR),
    ),
    Rule(
        "6.8",
        "GOAWAY of a stream",
        raw(write_frame(Kind.GOAWAY, 0, 1, bytes(8))),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.8",
        "streams before the peer's GOAWAY are answered",
        lambda peer: peer.call() + write_go_away(0, E.NO_ERROR),
        _answered_in_full_after_go_away,
    ),
    Rule("6.10", "a header block may have several CONTINUATIONs", _split_block, answered),
    Rule(
        "6.10",
        "CONTINUATION of stream 0",
        raw(write_frame(Kind.HEADERS, 0, 1, b"\x83") + write_frame(Kind.CONTINUATION, END_HEADERS, 0, b"")),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.10",
        "CONTINUATION after END_HEADERS",
        opened(write_frame(Kind.CONTINUATION, END_HEADERS, 1, b"")),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.10",
        "CONTINUATION after nothing",
        raw(write_frame(Kind.CONTINUATION, END_HEADERS, 1, b"")),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule("7", "unknown error codes are ignored", opened(write_reset(1, 0xFF)), ignored),  # type: ignore[arg-type]
]


DEVIATIONS = {
    "native": {"libnghttp2 ignores PRIORITY, which RFC 9113 deprecates": ["6.3 PRIORITY of stream 0"]},
    "grpcio": {
        "grpcio takes this flag of PING for one that it does not know": ["4.1 flags without meaning are ignored"],
        "grpcio ignores frames of streams that it does not know": [
            "6.1 DATA of stream 0",
            "6.2 HEADERS of stream 0",
            "6.4 RST_STREAM of stream 0",
        ],
        "grpcio does not read padding": [
            "6.1 DATA with more padding than payload",
            "6.2 HEADERS and DATA may be padded",
            "6.2 HEADERS may be padded and have a priority",
        ],
        "grpcio ignores frames that it has no use for": [
            "6.3 PRIORITY of stream 0",
            "6.3 PRIORITY of another length than 5",
            "6.6 PUSH_PROMISE",
            "6.7 PING of a stream",
            "6.8 GOAWAY of a stream",
        ],
    },
}
"""Rules that a server does not keep, and why."""


@pytest.mark.parametrize(("server", "rule"), parameters(RULES, DEVIATIONS))
def test_a_rule_is_kept(interop_address: Callable[[str], str], server: str, rule: Rule) -> None:
    play(interop_address(server), rule)


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n" + bytes(24), PREFACE + PING, PREFACE[:20] + b"XX\r\n" + bytes(24)],
    ids=["HTTP 1.1", "no SETTINGS", "another preface"],
)
@pytest.mark.parametrize("server", DEVIATIONS)
def test_3_4_what_is_no_preface_ends_the_connection(
    interop_address: Callable[[str], str], server: str, sent: bytes
) -> None:
    with RawPeer(interop_address(server)) as peer:
        peer.send(sent)
        assert peer.read_until(lambda: peer.failed)
