"""Header blocks of requests, read with HPACK (RFC 7541).

A client repeats itself: after its first calls the blocks of all others are the same few bytes, each of which names
a line of a table that both sides keep. What such a block says holds until a block changes the table, so it is kept
under its bytes for as long. To look it up takes a small part of what HPACK does.
"""

from __future__ import annotations

from typing import Final

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from ferserve_server.transport.express.frames import ConnectionFault, ErrorCode
from ferserve_server.transport.express.request_head import RequestHead, read_head

_MOST_BLOCKS: Final = 64
"""Blocks that are kept: a client has one for each method, deadline and set of metadata that it repeats."""

_LONGEST_BLOCK_BYTES: Final = 1024
"""Longer ones are read anew each time."""


class _WatchedTable(HeaderTable):
    """The table of HPACK, which counts its changes."""

    def __init__(self) -> None:
        self.change_count = 0
        super().__init__()

    def add(self, name: bytes, value: bytes) -> None:
        """Adds a line, which may drive out others."""
        self.change_count += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """Bound on its bytes."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, byte_count: int) -> None:
        self.change_count += 1
        HeaderTable.maxsize.fset(self, byte_count)  # type: ignore[attr-defined]  # a property has it


class HeaderBlocks:
    """Reads the blocks of one connection, all of them and in order.

    Args of the constructor:
        max_list_bytes: Bound on what a block says, counted as in RFC 9113, 6.5.2.
    """

    def __init__(self, max_list_bytes: int) -> None:
        self._decoder = Decoder(max_header_list_size=max_list_bytes)
        self._table = _WatchedTable()
        self._decoder.header_table = self._table
        self._known: dict[bytes, RequestHead] = {}

    def read(self, block: bytes) -> RequestHead:
        """Reads the block of a request.

        Raises:
            ConnectionFault: It cannot be read, and so none after it can.
            StreamFault: It is no request of HTTP/2.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        changes_before = self._table.change_count
        headers = self.decode(block)
        if self._table.change_count == changes_before and len(block) <= _LONGEST_BLOCK_BYTES:
            if len(self._known) >= _MOST_BLOCKS:
                self._known.clear()
            self._known[block] = head = read_head(headers)
            return head
        return read_head(headers)

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Reads any block, such as trailers.

        Raises:
            ConnectionFault: It cannot be read, and so none after it can.
        """
        changes_before = self._table.change_count
        try:
            headers = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from error
        # Behind a cut block the library finds the end of its bytes.
        except (HPACKError, IndexError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from error
        finally:
            if self._table.change_count != changes_before:
                self._known.clear()
        return [(bytes(name), bytes(value)) for name, value in headers]
