"""Tests the rules for requests of HTTP/2 (RFC 9113, 8), at both servers over a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.http2_frames import Kind, write_frame
from support.protocol_rules import Rule, answered, malformed, parameters, play
from support.raw_peer import DUPLEX_CALL, EMPTY_MESSAGE, RawPeer, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.raw_peer import Header


def _call(*more: Header, without: str = "", **changed: str) -> Callable[[RawPeer], bytes]:
    """Sends a call with other headers."""
    return lambda peer: peer.call(headers=request(without=without, **changed) + list(more))


def _first(*headers: Header) -> Callable[[RawPeer], bytes]:
    """Sends a call with headers before all others."""
    return lambda peer: peer.call(headers=[*headers, *request()])


RULES = [
    Rule(
        "8.1",
        "HEADERS after the first that do not end the stream",
        lambda peer: peer.headers(request(DUPLEX_CALL)) + peer.headers([("x-end", "1")]),
        malformed,
    ),
    Rule(
        "8.1",
        "trailers may end a request",
        lambda peer: (
            peer.headers(request())
            + write_frame(Kind.DATA, 0, 1, EMPTY_MESSAGE)
            + peer.headers([("x-end", "1")], end=True)
        ),
        answered,
    ),
    Rule("8.1.1", "content-length below the DATA", _call(("content-length", "1")), malformed),
    Rule("8.1.1", "content-length above the DATA", _call(("content-length", "9")), malformed),
    Rule("8.1.1", "content-length that is no number", _call(("content-length", "five")), malformed),
    Rule("8.1.1", "content-length twice", _call(("content-length", "5"), ("content-length", "6")), malformed),
    Rule("8.1.1", "content-length of the DATA", _call(("content-length", "5")), answered),
    Rule("8.2.1", "a name in upper case", _call(("X-Case", "y")), malformed),
    Rule("8.2.1", "a name with a space", _call(("x case", "y")), malformed),
    Rule("8.2.1", "a name with a control character", _call(("x\x01case", "y")), malformed),
    Rule("8.2.1", "a name with DEL", _call(("x\x7fcase", "y")), malformed),
    Rule("8.2.1", "a name above ASCII", _call((b"x\xe4case", "y")), malformed),
    Rule("8.2.1", "a name with a colon within", _call(("x:case", "y")), malformed),
    Rule("8.2.1", "a value with NUL", _call(("x-value", "a\0b")), malformed),
    Rule("8.2.1", "a value with CR", _call(("x-value", "a\rb")), malformed),
    Rule("8.2.1", "a value with LF", _call(("x-value", "a\nb")), malformed),
    Rule("8.2.1", "a value that begins with a space", _call(("x-value", " a")), malformed),
    Rule("8.2.1", "a value that ends with a space", _call(("x-value", "a ")), malformed),
    Rule("8.2.1", "a value that begins with a tab", _call(("x-value", "\ta")), malformed),
    Rule("8.2.1", "a value that ends with a tab", _call(("x-value", "a\t")), malformed),
    Rule("8.2.1", "spaces within a value are allowed", _call(("x-value", "a b\tc")), answered),
    *(
        Rule("8.2.2", f"{name} is a header of connections", _call((name, value)), malformed)
        for name, value in {
            "connection": "keep-alive",
            "proxy-connection": "keep-alive",
            "keep-alive": "timeout=5",
            "transfer-encoding": "chunked",
            "upgrade": "h2c",
        }.items()
    ),
    Rule("8.2.2", "te may be trailers alone", _call(("te", "trailers, deflate"), without="te"), malformed),
    Rule("8.3", "an unknown pseudo-header", _first((":unknown", "y")), malformed),
    Rule("8.3", "a pseudo-header of responses", _first((":status", "200")), malformed),
    Rule("8.3", "a pseudo-header after others", _call((":path", "/y"), without=":path"), malformed),
    Rule(
        "8.3",
        "a pseudo-header in trailers",
        lambda peer: (
            peer.headers(request())
            + write_frame(Kind.DATA, 0, 1, EMPTY_MESSAGE)
            + peer.headers([(":path", "/y")], end=True)
        ),
        malformed,
    ),
    *(
        Rule("8.3.1", f"a request without {name}", _call(without=name), malformed)
        for name in (":method", ":scheme", ":path")
    ),
    *(
        Rule("8.3.1", f"a request with two {name}", _first((name, value)), malformed)
        for name, value in {":method": "POST", ":scheme": "http", ":path": "/y", ":authority": "y"}.items()
    ),
    Rule("8.3.1", "an empty :path", _call(path=""), malformed),
    Rule("8.3.1", "a :path without a slash", _call(path="grpc.testing.TestService/EmptyCall"), malformed),
]

DEVIATIONS = {
    "native": {},
    "grpcio": {
        "grpcio does not compare content-length with the data": [
            "8.1.1 content-length below the DATA",
            "8.1.1 content-length above the DATA",
            "8.1.1 content-length that is no number",
            "8.1.1 content-length twice",
        ],
        "grpcio takes any values": [
            "8.2.1 a value with NUL",
            "8.2.1 a value with CR",
            "8.2.1 a value with LF",
            "8.2.1 a value that begins with a space",
            "8.2.1 a value that ends with a space",
            "8.2.1 a value that begins with a tab",
            "8.2.1 a value that ends with a tab",
        ],
        "grpcio takes headers of connections for metadata": [
            "8.2.2 connection is a header of connections",
            "8.2.2 proxy-connection is a header of connections",
            "8.2.2 keep-alive is a header of connections",
            "8.2.2 transfer-encoding is a header of connections",
            "8.2.2 upgrade is a header of connections",
        ],
        "grpcio answers no further call on the connection": ["8.2.2 te may be trailers alone"],
        "grpcio takes pseudo-headers of responses, and in trailers": [
            "8.3 a pseudo-header of responses",
            "8.3 a pseudo-header in trailers",
        ],
        "grpcio resets the stream with INTERNAL_ERROR": [
            "8.3.1 a request without :method",
            "8.3.1 a request without :scheme",
            "8.3.1 a request without :path",
        ],
        "grpcio takes one of the two": [
            "8.3.1 a request with two :method",
            "8.3.1 a request with two :scheme",
            "8.3.1 a request with two :path",
            "8.3.1 a request with two :authority",
        ],
    },
}
"""Rules that a server does not keep, and why."""


@pytest.mark.parametrize(("server", "rule"), parameters(RULES, DEVIATIONS))
def test_a_rule_is_kept(interop_address: Callable[[str], str], server: str, rule: Rule) -> None:
    play(interop_address(server), rule)
