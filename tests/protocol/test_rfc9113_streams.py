"""Tests the rules for streams and windows of HTTP/2 (RFC 9113, 5 and 6.9), at both servers over a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.http2_frames import (
    END_HEADERS,
    ErrorCode,
    Kind,
    Setting,
    write_frame,
    write_reset,
    write_settings,
    write_window_update,
)
from support.protocol_rules import Rule, connection_error, ignored, opened, parameters, play, raw, stream_error
from support.raw_peer import DUPLEX_CALL, EMPTY_MESSAGE, RawPeer, request

if TYPE_CHECKING:
    from collections.abc import Callable

E = ErrorCode
_CLOSED: Final = (E.STREAM_CLOSED, E.PROTOCOL_ERROR)


def _ended(*frames: bytes) -> Callable[[RawPeer], bytes]:
    """Opens stream 1, ends its request, which waits for an answer, and sends frames."""

    def send(peer: RawPeer) -> bytes:
        # An answer of 20 bytes, for which there is no window: the stream stays half closed.
        peer.send(write_settings({Setting.INITIAL_WINDOW_SIZE: 0}))
        return peer.call() + b"".join(frames)

    return send


def _answered_before(*frames: bytes) -> Callable[[RawPeer], bytes]:
    """Sends frames after stream 1 was answered, and so is closed."""

    def send(peer: RawPeer) -> bytes:
        peer.send(peer.call())
        assert peer.answer().status == "0"
        return b"".join(frames)

    return send


def _too_many_streams(peer: RawPeer) -> bytes:
    most = peer.settings[Setting.MAX_CONCURRENT_STREAMS]
    return b"".join(peer.headers(request(DUPLEX_CALL), 1 + 2 * at) for at in range(most + 1))


def _one_stream_rejected(peer: RawPeer) -> None:
    last = 1 + 2 * peer.settings[Setting.MAX_CONCURRENT_STREAMS]
    if peer.alive():
        assert peer.read_until(lambda: last in peer.answers or peer.failed)
        assert peer.answers[last].reset in {E.PROTOCOL_ERROR, E.REFUSED_STREAM}
    else:
        assert peer.go_away in {None, E.PROTOCOL_ERROR, E.REFUSED_STREAM}


def _small_window(size: int) -> Callable[[RawPeer], bytes]:
    def send(peer: RawPeer) -> bytes:
        return write_settings({Setting.INITIAL_WINDOW_SIZE: size}) + peer.call()

    return send


def _only_within_the_window(peer: RawPeer) -> None:
    assert peer.alive()
    assert peer.read_until(lambda: 1 in peer.answers and Kind.DATA in peer.answers[1].kinds)
    assert len(peer.answers[1].data) == 3
    peer.send(write_window_update(1, 100))
    assert (peer.answer().data, peer.answer().status) == (EMPTY_MESSAGE, "0")


def _nothing_without_a_window(peer: RawPeer) -> None:
    assert peer.alive()
    assert peer.read_until(lambda: 1 in peer.answers)
    assert peer.answers[1].data == b""
    peer.send(write_settings({Setting.INITIAL_WINDOW_SIZE: 100}))  # holds for open streams, too
    assert (peer.answer().data, peer.answer().status) == (EMPTY_MESSAGE, "0")


def _twice_set(peer: RawPeer) -> bytes:
    entry = Setting.INITIAL_WINDOW_SIZE.to_bytes(2)
    values = b"".join(entry + value.to_bytes(4) for value in (100, 0, 3))
    return write_frame(Kind.SETTINGS, 0, 0, values) + peer.call()


RULES = [
    Rule("5.1", "idle: DATA", raw(write_frame(Kind.DATA, 0, 1, b"x")), connection_error(*_CLOSED)),
    Rule("5.1", "idle: RST_STREAM", raw(write_reset(1, E.CANCEL)), connection_error(E.PROTOCOL_ERROR)),
    Rule("5.1", "idle: WINDOW_UPDATE", raw(write_window_update(1, 1)), connection_error(E.PROTOCOL_ERROR)),
    Rule("5.1", "idle: PRIORITY is allowed", raw(write_frame(Kind.PRIORITY, 0, 1, bytes(5))), ignored),
    Rule("5.1", "half closed: DATA", _ended(write_frame(Kind.DATA, 0, 1, b"x")), stream_error(*_CLOSED)),
    Rule(
        "5.1",
        "half closed: HEADERS",
        lambda peer: _ended()(peer) + peer.headers(request()),
        stream_error(*_CLOSED),
    ),
    Rule(
        "5.1",
        "half closed: CONTINUATION",
        _ended(write_frame(Kind.CONTINUATION, END_HEADERS, 1, b"")),
        connection_error(*_CLOSED),
    ),
    Rule("5.1", "closed: WINDOW_UPDATE is allowed", _answered_before(write_window_update(1, 1)), ignored),
    Rule("5.1", "closed: RST_STREAM is allowed", _answered_before(write_reset(1, E.NO_ERROR)), ignored),
    Rule(
        "5.1",
        "closed: PRIORITY is allowed",
        _answered_before(write_frame(Kind.PRIORITY, 0, 1, bytes(5))),
        ignored,
    ),
    Rule("5.1.1", "streams of even numbers", lambda peer: peer.call(2), connection_error(E.PROTOCOL_ERROR)),
    Rule(
        "5.1.1",
        "numbers that do not rise",
        lambda peer: peer.call(5) + peer.call(3),
        connection_error(*_CLOSED),
    ),
    Rule("5.1.2", "streams beyond the advertised bound", _too_many_streams, _one_stream_rejected),
    Rule(
        "6.9",
        "WINDOW_UPDATE by 0 of the connection",
        raw(write_window_update(0, 0)),
        connection_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.9",
        "WINDOW_UPDATE by 0 of a stream",
        opened(write_window_update(1, 0)),
        stream_error(E.PROTOCOL_ERROR),
    ),
    Rule(
        "6.9",
        "WINDOW_UPDATE of another length than 4",
        raw(write_frame(Kind.WINDOW_UPDATE, 0, 0, bytes(3))),
        connection_error(E.FRAME_SIZE_ERROR),
    ),
    Rule("6.9.1", "no more DATA than the window", _small_window(3), _only_within_the_window),
    Rule(
        "6.9.1",
        "the connection's window above 2^31-1",
        raw(write_window_update(0, 2**31 - 1) * 2),
        connection_error(E.FLOW_CONTROL_ERROR),
    ),
    Rule(
        "6.9.1",
        "a stream's window above 2^31-1",
        opened(write_window_update(1, 2**31 - 1) * 2),
        stream_error(E.FLOW_CONTROL_ERROR),
    ),
    Rule(
        "6.9.2",
        "INITIAL_WINDOW_SIZE changes the windows of open streams",
        _small_window(0),
        _nothing_without_a_window,
    ),
    Rule("6.5.3", "of a setting the last value holds", _twice_set, _only_within_the_window),
]

DEVIATIONS = {
    "native": {
        "libnghttp2 ignores late HEADERS: trailers may be on their way when it resets a stream": [
            "5.1.1 numbers that do not rise"
        ],
    },
    "grpcio": {
        "grpcio ignores frames of streams that it does not know": [
            "5.1 idle: DATA",
            "5.1 idle: RST_STREAM",
            "5.1 idle: WINDOW_UPDATE",
            "5.1 half closed: DATA",
            "5.1 half closed: HEADERS",
        ],
        "grpcio skips the header block and goes on": [
            "5.1.1 streams of even numbers",
            "5.1.1 numbers that do not rise",
        ],
        "grpcio does not watch the bound of windows": [
            "6.9.1 the connection's window above 2^31-1",
            "6.9.1 a stream's window above 2^31-1",
        ],
    },
}
"""Rules that a server does not keep, and why."""


@pytest.mark.parametrize(("server", "rule"), parameters(RULES, DEVIATIONS))
def test_a_rule_is_kept(interop_address: Callable[[str], str], server: str, rule: Rule) -> None:
    play(interop_address(server), rule)
