"""Tests the rules of gRPC over HTTP/2, by section, at both servers over a socket.

The document: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Final

import pytest

from support.http2_frames import ErrorCode, Kind, Setting, message_bytes, write_frame, write_settings
from support.protocol_rules import Rule, answered, parameters, play, rejected
from support.raw_peer import DUPLEX_CALL, EMPTY_CALL, EMPTY_MESSAGE, INPUT_CALL, UNARY_CALL, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.raw_peer import Header, RawPeer

UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL = 2, 4, 12, 13
STATUS_2: Final = b"\x3a\x0a\x08\x02\x12\x06caf\xc3\xa9\x0a"
"""In a request: to be answered by status 2 and the message "café\\n"."""


def _input(size: int) -> bytes:
    """A message of StreamingInputCall with so many bytes, below 100."""
    return bytes([0x0A, size + 2, 0x12, size]) + bytes(size)


def _sends(data: bytes, path: str = EMPTY_CALL, *more: Header) -> Callable[[RawPeer], bytes]:
    """A call with these bytes as the whole body."""
    return lambda peer: peer.headers(request(path, *more)) + peer.last(1, data)


def _typed(content_type: str) -> Callable[[RawPeer], bytes]:
    return lambda peer: peer.call(
        headers=request(EMPTY_CALL, ("content-type", content_type), without="content-type")
    )


def _in_pieces(data: bytes, size: int, path: str, *, empty_end: bool = False) -> Callable[[RawPeer], bytes]:
    def send(peer: RawPeer) -> bytes:
        parts = [data[at : at + size] for at in range(0, len(data), size)] + ([b""] if empty_end else [])
        frames = [write_frame(Kind.DATA, 0, 1, part) for part in parts[:-1]]
        return b"".join([peer.headers(request(path)), *frames, peer.last(1, parts[-1])])

    return send


def _summed(size: int) -> Callable[[RawPeer], None]:
    """StreamingInputCall has counted so many bytes."""

    def check(peer: RawPeer) -> None:
        answered(peer)
        assert peer.answer().data == message_bytes(bytes([8, size]) if size else b"")

    return check


def _http_status(status: str) -> Callable[[RawPeer], None]:
    def check(peer: RawPeer) -> None:
        peer.answer()
        assert peer.answers[1].headers.get(":status") == status, peer.answers[1]

    return check


def _in_order(peer: RawPeer) -> None:
    answered(peer)
    answer = peer.answer()
    assert answer.kinds == [Kind.HEADERS, Kind.DATA, Kind.HEADERS]
    assert answer.headers["content-type"].startswith("application/grpc")
    assert answer.data == EMPTY_MESSAGE


def _trailers_only(peer: RawPeer) -> None:
    rejected(UNIMPLEMENTED)(peer)
    answer = peer.answers[1]
    assert answer.kinds[0] == Kind.HEADERS
    assert Kind.DATA not in answer.kinds
    assert (answer.headers[":status"], answer.ended) == ("200", True)
    assert answer.headers["content-type"].startswith("application/grpc")


def _percent_encoded(peer: RawPeer) -> None:
    rejected(UNKNOWN)(peer)
    assert peer.answers[1].headers["grpc-message"] == "caf%C3%A9%0A"


def _encodings_named(peer: RawPeer) -> None:
    rejected(UNIMPLEMENTED)(peer)
    accepted = peer.answers[1].headers["grpc-accept-encoding"].replace(" ", "").split(",")
    assert {"identity", "gzip", "deflate"} <= set(accepted)


def _metadata_echoed(peer: RawPeer) -> None:
    answered(peer)
    headers = peer.answers[1].headers
    assert headers["x-grpc-test-echo-initial"] == "a value, with a comma"
    assert headers["x-grpc-test-echo-trailing-bin"].rstrip("=") == "AAH+"


def _binary(value: str) -> Callable[[RawPeer], bytes]:
    more = (("x-grpc-test-echo-initial", "a value, with a comma"), ("x-grpc-test-echo-trailing-bin", value))
    return _sends(EMPTY_MESSAGE, UNARY_CALL, *more)


def _spared(peer: RawPeer) -> None:
    """The answer comes before the end of the request, whose rest is not awaited, by a reset without error."""
    peer.read_until(lambda: 1 in peer.answers and peer.answers[1].reset is not None)
    assert (peer.answers[1].status, peer.answers[1].reset) == (str(UNIMPLEMENTED), ErrorCode.NO_ERROR)
    assert peer.answers_calls(3)


def _answers_to_others(peer: RawPeer) -> None:
    assert peer.answer(3).status == "0"
    assert peer.alive()


def _limited(peer: RawPeer) -> bytes:
    return write_settings({Setting.INITIAL_WINDOW_SIZE: 2**20}) + peer.call()


RULES = [
    Rule("Requests", "a response is headers, messages, trailers", lambda peer: peer.call(), _in_order),
    *(
        Rule("Requests", f"content-type {name} is a call", _typed(name), answered)
        for name in ("application/grpc+proto", "application/grpc;charset=utf-8")
    ),
    *(
        Rule("Requests", f"content-type {name} is answered by HTTP status 415", _typed(name), _http_status("415"))
        for name in ("application/json", "application/grpcx")
    ),
    Rule(
        "Requests",
        "a method is POSTed",
        lambda peer: peer.call(headers=request(method="GET")),
        _http_status("405"),
    ),
    *(
        Rule(
            "Requests",
            f"a timeout of {value} is read",
            _sends(EMPTY_MESSAGE, EMPTY_CALL, ("grpc-timeout", value)),
            answered,
        )
        for value in ("1H", "1M", "20S", "20000m", "20000000u", "99999999n", "99999999H")
    ),
    *(
        Rule(
            "Requests",
            f"a timeout of {value!r} is rejected",
            _sends(EMPTY_MESSAGE, EMPTY_CALL, ("grpc-timeout", value)),
            rejected(INTERNAL),
        )
        for value in ("soon", "1", "S", "1s", "-1S", "1.5S", "999999999S")
    ),
    Rule(
        "Requests",
        "a deadline that passes ends the call",
        lambda peer: peer.headers(request(DUPLEX_CALL, ("grpc-timeout", "20m"))),
        rejected(DEADLINE_EXCEEDED),
    ),
    Rule(
        "Requests",
        "an encoding that is not read is rejected by name",
        _sends(b"\1\0\0\0\1x", EMPTY_CALL, ("grpc-encoding", "snappy")),
        _encodings_named,
    ),
    Rule(
        "Requests",
        "messages may be compressed, each",
        _sends(
            message_bytes(_input(9)) + b"\1" + message_bytes(gzip.compress(_input(30)))[1:],
            INPUT_CALL,
            ("grpc-encoding", "gzip"),
        ),
        _summed(39),
    ),
    Rule(
        "Requests",
        "a compressed message without an encoding is rejected",
        _sends(b"\1\0\0\0\1x"),
        rejected(INTERNAL),
    ),
    Rule(
        "Requests",
        "what is no gzip is rejected",
        _sends(b"\1\0\0\0\1x", EMPTY_CALL, ("grpc-encoding", "gzip")),
        rejected(INTERNAL),
    ),
    Rule("Requests", "binary metadata has its padding", _binary("AAH+"), _metadata_echoed),
    Rule("Requests", "binary metadata may lack its padding", _binary("AAH+".rstrip("=")), _metadata_echoed),
    Rule(
        "Requests",
        "messages may be cut anywhere",
        _in_pieces(message_bytes(_input(9)) + message_bytes(_input(30)), 1, INPUT_CALL),
        _summed(39),
    ),
    Rule(
        "Requests",
        "a frame may hold several messages",
        _sends(message_bytes(_input(9)) * 5, INPUT_CALL),
        _summed(45),
    ),
    Rule(
        "Requests",
        "an empty frame may end a request",
        _in_pieces(message_bytes(_input(9)), 100, INPUT_CALL, empty_end=True),
        _summed(9),
    ),
    Rule("Requests", "a stream may have no message", _sends(b"", INPUT_CALL), _summed(0)),
    Rule("Requests", "a unary call without a message is rejected", _sends(b""), rejected(UNIMPLEMENTED, INTERNAL)),
    Rule(
        "Requests",
        "a unary call with two messages is rejected",
        _sends(EMPTY_MESSAGE * 2),
        rejected(UNIMPLEMENTED, INTERNAL),
    ),
    Rule("Requests", "an end within a message is rejected", _sends(b"\0\0\0\0\5ab"), rejected(INTERNAL, UNKNOWN)),
    Rule("Requests", "an end within a prefix is rejected", _sends(b"\0\0\0"), rejected(INTERNAL, UNKNOWN)),
    Rule(
        "Responses",
        "a call that fails at once has trailers only",
        lambda peer: peer.call(headers=request("/no/such")),
        _trailers_only,
    ),
    Rule(
        "Responses",
        "grpc-message is percent-encoded",
        _sends(message_bytes(STATUS_2), UNARY_CALL),
        _percent_encoded,
    ),
    Rule(
        "HTTP2 Transport Mapping",
        "an early answer ends a request before its end",
        lambda peer: peer.headers(request("/no/such")) + write_frame(Kind.DATA, 0, 1, EMPTY_MESSAGE),
        _spared,
    ),
    Rule(
        "HTTP2 Transport Mapping",
        "a reset call is over, and others go on",
        lambda peer: (
            peer.headers(request(DUPLEX_CALL))
            + write_frame(Kind.RST_STREAM, 0, 1, int(ErrorCode.CANCEL).to_bytes(4))
            + peer.call(3)
        ),
        _answers_to_others,
    ),
    Rule("HTTP2 Transport Mapping", "settings change while calls are open", _limited, answered),
]

DEVIATIONS: dict[str, dict[str, list[str]]] = {
    "native": {},
    "grpcio": {
        "grpcio takes any content-type": [
            "Requests content-type application/json is answered by HTTP status 415",
            "Requests content-type application/grpcx is answered by HTTP status 415",
        ],
        "grpcio resets the stream with INTERNAL_ERROR": ["Requests a method is POSTed"],
        "grpcio takes nine digits": ["Requests a timeout of '999999999S' is rejected"],
        "grpcio answers INTERNAL": ["Requests an encoding that is not read is rejected by name"],
        "grpcio hands the bytes to the handler": ["Requests a compressed message without an encoding is rejected"],
        "grpcio waits indefinitely": [
            "Requests a unary call without a message is rejected",
            "Requests an end within a message is rejected",
            "Requests an end within a prefix is rejected",
        ],
        "grpcio takes the first one": ["Requests a unary call with two messages is rejected"],
    },
}
"""Rules that a server does not keep, and why."""


@pytest.mark.parametrize(("server", "rule"), parameters(RULES, DEVIATIONS))
def test_a_rule_is_kept(interop_address: Callable[[str], str], server: str, rule: Rule) -> None:
    play(interop_address(server), rule)
