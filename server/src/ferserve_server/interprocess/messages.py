"""The short messages that go with a batch. The faces and scores themselves are in shared memory."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct("<BBHIIQQ")

BATCH_MESSAGE_BYTES: Final = 1024
"""Longest message of a batch, in bytes: a header of 28 and a text."""

_LONGEST_TEXT: Final = BATCH_MESSAGE_BYTES - _HEADER.size


class BatchKind(IntEnum):
    """What a message says."""

    RUN = 1
    SCORED = 2
    FAILED = 3


class BatchMessage(NamedTuple):
    """One message of a batch, either way.

    Attributes:
        kind: RUN asks for scores; SCORED says that they are in the slot, FAILED why they are not.
        slot: Where faces and scores are, 0 to 65535.
        handle: What to run, by a number that the two sides agreed on.
        row_count: Rows of the batch, padding included.
        sequence: Number of the batch; the answer has that of the question.
        duration_ns: How long the execution took, in nanoseconds; 0 in a question.
        flags: 8 bits for the two sides to agree on.
        text: Free, such as why it failed; cut off to fit `BATCH_MESSAGE_BYTES`.
    """

    kind: BatchKind
    slot: int
    handle: int = 0
    row_count: int = 0
    sequence: int = 0
    duration_ns: int = 0
    flags: int = 0
    text: str = ""


def pack(message: BatchMessage) -> bytes:
    """Writes a message down."""
    kind, slot, handle, row_count, sequence, duration_ns, flags, text = message
    header = _HEADER.pack(kind, flags, slot, handle, row_count, sequence, duration_ns)
    return header + text.encode("utf-8", "replace")[:_LONGEST_TEXT] if text else header


def unpack(data: bytes) -> BatchMessage:
    """Reads a message.

    Raises:
        ValueError: It is none.
    """
    try:
        kind, flags, slot, handle, row_count, sequence, duration_ns = _HEADER.unpack_from(data)
    except struct.error as error:
        raise ValueError("not a message of a batch") from error
    text = data[_HEADER.size :].decode("utf-8", "replace") if len(data) > _HEADER.size else ""
    return BatchMessage(BatchKind(kind), slot, handle, row_count, sequence, duration_ns, flags, text)
