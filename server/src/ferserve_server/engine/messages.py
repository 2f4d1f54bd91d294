"""Encodes the messages between server and engine process.

The short messages that go with a batch. The faces and scores themselves are in shared memory.

What server and engine process say to each other but for batches: JSON, a request and its answer at a time.
"""

from __future__ import annotations

import json
import struct
import traceback
from dataclasses import asdict
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import InputSpec, ModelDescription, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping


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


_LONGEST_TRACE: Final = 8000
"""Characters, so that a message has room for it whatever they are."""

Fields = dict[str, Any]
"""JSON object: its values are what JSON has."""


class EngineRaisedError(Exception):
    """What the engine raised in its own process, as text; a note has the trace."""


def request(do: str, fields: Mapping[str, object]) -> bytes:
    """Asks for one of the things that `worker.Worker` does."""
    return json.dumps({"do": do, **fields}).encode()


def answer(fields: Fields | None = None) -> bytes:
    """Says that it was done, and what came of it."""
    return json.dumps({"done": fields or {}}).encode()


def refusal(error: BaseException) -> bytes:
    """Says why it was not done."""
    if isinstance(error, ModelRejectedError):
        fields = {"reason": error.reason, "message": error.message, "facts": error.metadata}
        return json.dumps({"rejected": fields}).encode()
    trace = "".join(traceback.format_exception(error))
    return json.dumps({"raised": repr(error)[:1000], "trace": trace[-_LONGEST_TRACE:]}).encode()


def read(message: bytes) -> Fields:
    """Reads a request, or the answer to one.

    Raises:
        ModelRejectedError: The version may not be served.
        EngineRaisedError: The engine raised something else.
    """
    fields: Fields = json.loads(message)
    if "rejected" in fields:
        said = fields["rejected"]
        raise ModelRejectedError(said["reason"], said["message"], **said["facts"])
    if "raised" in fields:
        error = EngineRaisedError(fields["raised"])
        error.add_note(f"In the engine's process:\n{fields['trace']}")
        raise error
    done: Fields = fields.get("done", fields)
    return done


def describe(description: ModelDescription) -> Fields:
    """Writes a description down."""
    return asdict(description) | {"precision": description.precision.value}


def read_description(fields: Fields) -> ModelDescription:
    """Reads what `describe` wrote."""
    return ModelDescription(
        **fields
        | {
            "labels": tuple(fields["labels"]),
            "input": InputSpec(**fields["input"]),
            "precision": Precision(fields["precision"]),
        }
    )
