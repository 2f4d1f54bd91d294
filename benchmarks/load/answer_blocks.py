"""Reads the status from header blocks of answers; a load needs nothing else of them. Pure."""

from __future__ import annotations

from typing import Final

from hpack import Decoder

_NAME: Final = b"grpc-status"
_STATIC_LINES: Final = 61
"""Lines of HPACK's static table (RFC 7541, A); those above are of the one that both sides keep."""

_MAX_BLOCKS: Final = 64


class AnswerBlocks:
    """Reads the blocks of one connection, all of them and in order.

    Blocks of literals without indexing and of lines of the static table are walked through; others go to the
    library hpack, which keeps the table, unless the same bytes meant the same since the table last changed.
    """

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._known: dict[bytes, str] = {}

    def status(self, block: bytes) -> str:
        """Returns the grpc-status of a block, "" if it has none.

        Raises:
            hpack.HPACKError: It cannot be read.
        """
        found = plain_status(block)
        if found is not None:
            return found
        known = self._known.get(block)
        if known is not None:
            return known
        lines = self._decoder.header_table.dynamic_entries
        before = len(lines), lines[0] if lines else None
        headers = dict(self._decoder.decode(block, raw=True))
        if (len(lines), lines[0] if lines else None) != before or len(self._known) >= _MAX_BLOCKS:
            self._known.clear()
        else:
            self._known[block] = bytes(headers.get(_NAME, b"")).decode()
        return bytes(headers.get(_NAME, b"")).decode()


def plain_status(block: bytes) -> str | None:
    """Returns the grpc-status of a block that uses no table, "" if it has none; None of any other."""
    at, status = 0, b""
    while at < len(block):
        first = block[at]
        if first & 0x80:
            if not 0x80 < first <= 0x80 | _STATIC_LINES:
                return None
            at += 1
            continue
        if first >= 0x20:  # a literal that is kept, or a change of the table's size
            return None
        index, at = _integer(block, at, 0x0F)
        if index > _STATIC_LINES:
            return None
        name = b""
        if index == 0:
            if block[at] & 0x80:  # Huffman's code
                return None
            length, at = _integer(block, at, 0x7F)
            name = block[at : at + length]
            at += length
        huffman = block[at] & 0x80
        length, at = _integer(block, at, 0x7F)
        if name == _NAME:
            if huffman:
                return None
            status = block[at : at + length]
        at += length
    return status.decode()


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Returns an integer in a prefix of as many bits as `mask` has (RFC 7541, 5.1), and where the next byte is."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        value += (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            return value, at
