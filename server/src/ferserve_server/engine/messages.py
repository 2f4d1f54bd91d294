"""Encodes the messages between server and engine process.

A batch goes with a short binary message; its faces and scores are in shared memory. All other messages are JSON,
one request and its answer at a time.
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
"""Maximum length of a batch message, in bytes: a header of 28 and a text."""

_MAX_TEXT_BYTES: Final = BATCH_MESSAGE_BYTES - _HEADER.size


class BatchKind(IntEnum):
    """Identifies the kind of a batch message."""

    RUN = 1
    SCORED = 2
    FAILED = 3


class BatchMessage(NamedTuple):
    """Represents one message about a batch, in either direction.

    Attributes:
        kind: RUN asks for scores; SCORED says that they are in the slot, FAILED why they are not.
        slot: Slot of faces and scores, 0 to 65535.
        handle: Number of the servable to run, agreed on by the two sides.
        row_count: Rows of the batch, padding included.
        sequence: Number of the batch; the answer has that of the request.
        duration_ns: Duration of the execution, in nanoseconds; 0 in a request.
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
    """Encodes a message."""
    kind, slot, handle, row_count, sequence, duration_ns, flags, text = message
    header = _HEADER.pack(kind, flags, slot, handle, row_count, sequence, duration_ns)
    return header + text.encode("utf-8", "replace")[:_MAX_TEXT_BYTES] if text else header


def unpack(data: bytes) -> BatchMessage:
    """Decodes a message.

    Raises:
        ValueError: It is none.
    """
    try:
        kind, flags, slot, handle, row_count, sequence, duration_ns = _HEADER.unpack_from(data)
    except struct.error as error:
        raise ValueError("not a message of a batch") from error
    text = data[_HEADER.size :].decode("utf-8", "replace") if len(data) > _HEADER.size else ""
    return BatchMessage(BatchKind(kind), slot, handle, row_count, sequence, duration_ns, flags, text)


_MAX_TRACE_BYTES: Final = 8000
"""Maximum length of a trace, in characters, because a message must have room for it whatever they are."""

Fields = dict[str, Any]
"""Type of a JSON object."""


_TAKEN: Final = frozenset({"reason", "message", "self"})
"""Names that a fact cannot have, because they are arguments of `ModelRejectedError`."""


class EngineRaisedError(Exception):
    """Reports an exception that the engine raised in its own process, as text; a note has the trace.

    Attributes:
        transient: True if it may go away by itself: the system or the memory was short of something.
    """

    def __init__(self, text: str, *, transient: bool = False) -> None:
        super().__init__(text)
        self.transient = transient


class AnswerInvalidError(Exception):
    """Reports an answer that the server's own worker would not send; the text says why."""


def request(do: str, fields: Mapping[str, object]) -> bytes:
    """Encodes a request for one of the operations of `worker.Worker`."""
    return json.dumps({"do": do, **fields}).encode()


def answer(fields: Fields | None = None) -> bytes:
    """Encodes the result of a completed request."""
    return json.dumps({"done": fields or {}}).encode()


def rejection(error: BaseException) -> bytes:
    """Encodes the reason for a failed request."""
    if isinstance(error, ModelRejectedError):
        fields = {"reason": error.reason, "message": error.message, "facts": error.metadata}
        return json.dumps({"rejected": fields}).encode()
    trace = "".join(traceback.format_exception(error))
    transient = isinstance(error, (OSError, MemoryError))
    return json.dumps(
        {"raised": repr(error)[:1000], "trace": trace[-_MAX_TRACE_BYTES:], "transient": transient}
    ).encode()


def read(message: bytes) -> Fields:
    """Decodes a request, or the answer to one.

    Raises:
        ModelRejectedError: The version may not be served.
        EngineRaisedError: Another exception of the engine.
        AnswerInvalidError: It is neither.
    """
    try:
        fields: Fields = json.loads(message)
        if "rejected" in fields:
            said = fields["rejected"]
            facts = {str(name): str(value) for name, value in said["facts"].items()}
            error: Exception = ModelRejectedError(
                str(said["reason"]), str(said["message"]), **{k: v for k, v in facts.items() if k not in _TAKEN}
            )
        elif "raised" in fields:
            error = EngineRaisedError(str(fields["raised"]), transient=fields.get("transient") is True)
            error.add_note(f"In the engine's process:\n{fields['trace']}")
        else:
            done: Fields = fields.get("done", fields)
            if not isinstance(done, dict):
                raise TypeError("no object")  # noqa: TRY301 - reported like the others
            return done
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise AnswerInvalidError(repr(fault)) from fault
    raise error


def read_count(fields: Fields, name: str, most: int) -> int:
    """Reads a number from 1 to `most` from an answer.

    Raises:
        AnswerInvalidError: It is none.
    """
    value = fields.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise AnswerInvalidError(f"{name} is {value!r:.50}, not 1 to {most}")
    return value


def describe(description: ModelDescription) -> Fields:
    """Encodes a description."""
    return asdict(description) | {"precision": description.precision.value}


def read_description(fields: Fields) -> ModelDescription:
    """Decodes a description that `describe` encoded."""
    return ModelDescription(
        **fields
        | {
            "labels": tuple(fields["labels"]),
            "input": InputSpec(**fields["input"]),
            "precision": Precision(fields["precision"]),
        }
    )
