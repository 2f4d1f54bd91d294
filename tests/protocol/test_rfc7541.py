"""Tests the rules for decoders of HPACK (RFC 7541), by section, at both servers over a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.http2_frames import END_HEADERS, ErrorCode, Kind, write_frame
from support.protocol_rules import Rule, answered, connection_error, parameters, play
from support.raw_peer import EMPTY_CALL, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.raw_peer import Header, RawPeer

INDEXED, WITHOUT_INDEXING, NEVER_INDEXED = 0x40, 0x00, 0x10
"""First bytes of literals (6.2.1 to 6.2.3)."""

FIRST_DYNAMIC: Final = b"\xbe"
"""The newest entry of the dynamic table, 62."""


def _number(value: int, prefix_bits: int, first: int = 0) -> bytes:
    """An integer behind the upper bits of its first byte (5.1)."""
    most = 2**prefix_bits - 1
    if value < most:
        return bytes([first | value])
    data, value = [first | most], value - most
    while value >= 128:
        data.append(value % 128 | 128)
        value //= 128
    return bytes([*data, value])


def _string(text: bytes, *, huffman: bool = False) -> bytes:
    return _number(len(text), 7, 0x80 if huffman else 0) + text


def _literal(name: bytes, value: bytes, form: int = WITHOUT_INDEXING) -> bytes:
    return bytes([form]) + _string(name) + _string(value)


def _plain(*more: Header, form: int = WITHOUT_INDEXING) -> bytes:
    """The headers of a call as literals."""
    return b"".join(_literal(_bytes(name), _bytes(value), form) for name, value in request(EMPTY_CALL, *more))


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _call(block: bytes, stream_id: int = 1) -> bytes:
    return write_frame(Kind.HEADERS, END_HEADERS, stream_id, block)


def _blocks(*blocks: bytes) -> Callable[[RawPeer], bytes]:
    """Sends calls with these header blocks; the last one is on stream 1 if it is the only one."""
    return lambda peer: b"".join(
        _call(block, 2 * at + 1) + peer.last(2 * at + 1) for at, block in enumerate(blocks)
    )


def _with_value(coded: bytes) -> bytes:
    """The headers of a call, and a field whose value is written so."""
    return _plain() + bytes([WITHOUT_INDEXING]) + _string(b"x-value") + coded


def _second_answered(peer: RawPeer) -> None:
    assert peer.answer(1).status == peer.answer(3).status == "0", peer.answers


FAILS: Final = connection_error(ErrorCode.COMPRESSION_ERROR)
LONG_ENTRY: Final = _literal(b"x-long", b"y" * 5000, INDEXED)

RULES = [
    Rule("2.3.3", "an index beyond both tables is an error", _blocks(_plain() + FIRST_DYNAMIC), FAILS),
    Rule(
        "2.3.3",
        "the newest entry has the first index",
        _blocks(_plain() + _literal(b"x-a", b"1", INDEXED) + FIRST_DYNAMIC),
        answered,
    ),
    Rule(
        "2.3.3",
        "the table lasts from block to block",
        _blocks(_plain(form=INDEXED), bytes(range(0xBE + len(request()) - 1, 0xBD, -1))),
        _second_answered,
    ),
    Rule("4.2", "a size update may begin a block", _blocks(b"\x3f\xe1\x1f" + _plain()), answered),
    Rule("4.2", "two size updates may begin a block", _blocks(b"\x20\x3f\xe1\x1f" + _plain()), answered),
    Rule("4.2", "a size update behind a field is an error", _blocks(_plain() + b"\x20"), FAILS),
    Rule(
        "4.3",
        "a smaller table loses its entries",
        _blocks(_literal(b"x-a", b"1", INDEXED) + _plain(), b"\x20" + FIRST_DYNAMIC),
        FAILS,
    ),
    Rule("4.4", "an entry beyond the table's size is no error", _blocks(_plain() + LONG_ENTRY), answered),
    Rule(
        "4.4",
        "an entry beyond the table's size empties it",
        _blocks(_plain(form=INDEXED) + LONG_ENTRY + FIRST_DYNAMIC),
        FAILS,
    ),
    Rule("5.1", "integers of several bytes are read", _blocks(_plain(("x-long", "y" * 3000))), answered),
    Rule(
        "5.1",
        "an integer beyond all bounds is an error",
        _blocks(_plain() + b"\xff" + b"\xff" * 10 + b"\x7f"),
        FAILS,
    ),
    Rule("5.2", "a string beyond the block is an error", _blocks(_with_value(b"\x7f\x10")), FAILS),
    Rule(
        "5.2", "strings in Huffman code are read", _blocks(_with_value(_string(b"\x1f", huffman=True))), answered
    ),
    Rule(
        "5.2",
        "padding of more than 7 bits is an error",
        _blocks(_with_value(_string(b"\x1f\xff", huffman=True))),
        FAILS,
    ),
    Rule(
        "5.2",
        "padding that is not of ones is an error",
        _blocks(_with_value(_string(b"\x18", huffman=True))),
        FAILS,
    ),
    Rule(
        "5.2",
        "a string with EOS is an error",
        _blocks(_with_value(_string(b"\xff\xff\xff\xff", huffman=True))),
        FAILS,
    ),
    Rule("6.1", "index 0 is an error", _blocks(_plain() + b"\x80"), FAILS),
    Rule(
        "6.1",
        "entries of the static table are read",
        _blocks(b"\x83\x86" + _plain()[len(_literal(b":method", b"POST") + _literal(b":scheme", b"http")) :]),
        answered,
    ),
    Rule("6.2.1", "literals with indexing are read", _blocks(_plain(form=INDEXED)), answered),
    Rule("6.2.2", "literals without indexing are read", _blocks(_plain(form=WITHOUT_INDEXING)), answered),
    Rule("6.2.2", "literals without indexing are not indexed", _blocks(_plain() + FIRST_DYNAMIC), FAILS),
    Rule("6.2.3", "literals that are never indexed are read", _blocks(_plain(form=NEVER_INDEXED)), answered),
    Rule(
        "6.2.3",
        "literals that are never indexed are not indexed",
        _blocks(_plain(form=NEVER_INDEXED) + FIRST_DYNAMIC),
        FAILS,
    ),
    Rule("6.3", "a size above that of the settings is an error", _blocks(b"\x3f\xe2\x1f" + _plain()), FAILS),
]

DEVIATIONS: dict[str, dict[str, list[str]]] = {
    "native": {},
    "grpcio": {
        "grpcio takes size updates anywhere": ["4.2 a size update behind a field is an error"],
        "grpcio does not look at what pads a string": [
            "5.2 padding of more than 7 bits is an error",
            "5.2 a string with EOS is an error",
        ],
    },
}
"""Rules that a server does not keep, and why."""


@pytest.mark.parametrize(("server", "rule"), parameters(RULES, DEVIATIONS))
def test_a_rule_is_kept(interop_address: Callable[[str], str], server: str, rule: Rule) -> None:
    play(interop_address(server), rule)
