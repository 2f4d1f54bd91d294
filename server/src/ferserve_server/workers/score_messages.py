"""Encodes the messages of one request between a worker process and the primary process. Pure.

::

    worker -> primary    SCORE     score these faces, at this place of the shared memory
                         CANCEL    the client has cancelled
                         CLOSE     a lease that was kept for more faces ends
    primary -> worker    ANSWER    the scores are at the place where the faces were
                         REJECTED   the error
                         LEFT      the answer to CANCEL: nothing writes to the place any more

Every SCORE gets exactly one of the last three, and its place belongs to the primary process until then. Numbers
are little-endian; the first byte is the kind.
"""

from __future__ import annotations

import json
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId, CallerKind
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec, ServableId
from ferserve_server.domain.trace import SpanRef
from ferserve_server.workers.json_codec import read_error, write_error

if TYPE_CHECKING:
    from ferserve_server.domain.errors import FerserveError

SCORE: Final = 1
CANCEL: Final = 2
CLOSE: Final = 3
ANSWER: Final = 4
REJECTED: Final = 5
CANCELLED: Final = 6

_SCORE: Final = struct.Struct("<BBIIQQIHHdH")
_ANSWER: Final = struct.Struct("<BIIHddH")
_NUMBERED: Final = struct.Struct("<BI")
_VERSION: Final = struct.Struct("<q")
_NO_DEADLINE: Final = -1.0
_BULK: Final = 1
_HELD: Final = 2
_TRACED: Final = 4
_SPAN_COUNT: Final = struct.Struct("<H")
_SPAN: Final = struct.Struct("<16s8s")


class ScoreRequest(NamedTuple):
    """Represents a request to score faces.

    Attributes:
        number: The request's, unique among those that are not answered.
        lease: The lease's number, for faces of one call that are to meet one version.
        held: True if the lease is kept until CLOSE.
        offset: Offset of the faces in the shared memory, in bytes.
        room: Bytes there; the scores must fit in too.
        shape: Faces, height, width.
        deadline: When the answer must be there, on the machine's monotonic clock, in seconds, or None.
        priority: Its priority.
        spec: The model.
        caller: Identity of the request's client.
        spans: Spans of the sampled calls that it is for.
    """

    number: int
    lease: int
    held: bool
    offset: int
    room: int
    shape: tuple[int, int, int]
    deadline: float | None
    priority: Priority
    spec: ModelSpec
    caller: CallerId = UNKNOWN_CALLER
    spans: tuple[SpanRef, ...] = ()


class ScoreAnswer(NamedTuple):
    """Represents the scores of a request: float32 [face_count, label_count], in the place of its faces.

    Attributes:
        number: The request's.
        face_count: Rows.
        label_count: Columns.
        servable: The version that scored.
        queue_s: See `domain.prediction.ScoredFaces`.
        inference_s: The same.
        failures: The same.
    """

    number: int
    face_count: int
    label_count: int
    servable: ServableId
    queue_s: float
    inference_s: float
    failures: dict[int, FerserveError]


def kind_of(message: bytes) -> int:
    """Returns the kind of a message."""
    return message[0]


def write_score(request: ScoreRequest) -> bytes:
    """Encodes a SCORE message."""
    flags = (_BULK if request.priority is Priority.BULK else 0) | (_HELD if request.held else 0)
    flags |= _TRACED if request.spans else 0
    deadline = _NO_DEADLINE if request.deadline is None else max(0.0, request.deadline)
    head = _SCORE.pack(
        SCORE,
        flags,
        request.number,
        request.lease,
        request.offset,
        request.room,
        *request.shape,
        deadline,
        len(_spec_bytes(request.spec)),
    )
    traced = _span_bytes(request.spans) if request.spans else b""
    return head + _spec_bytes(request.spec) + traced + _caller_bytes(request.caller)


def read_score(message: bytes) -> ScoreRequest:
    """Decodes a SCORE message."""
    _, flags, number, lease, offset, room, count, height, width, deadline, length = _SCORE.unpack_from(message)
    end = caller_at = _SCORE.size + length
    spans: tuple[SpanRef, ...] = ()
    if flags & _TRACED:
        spans, caller_at = _spans_of(message, end)
    return ScoreRequest(
        number,
        lease,
        bool(flags & _HELD),
        offset,
        room,
        (count, height, width),
        None if deadline == _NO_DEADLINE else deadline,
        Priority.BULK if flags & _BULK else Priority.INTERACTIVE,
        _spec_of(message[_SCORE.size : end]),
        _caller_of(message[caller_at:]),
        spans,
    )


def write_answer(answer: ScoreAnswer) -> bytes:
    """Encodes an ANSWER message."""
    servable = _servable_bytes(answer.servable)
    head = _ANSWER.pack(
        ANSWER,
        answer.number,
        answer.face_count,
        answer.label_count,
        answer.queue_s,
        answer.inference_s,
        len(servable),
    )
    return head + servable + _failure_bytes(answer.failures) if answer.failures else head + servable


def read_answer(message: bytes) -> ScoreAnswer:
    """Decodes an ANSWER message."""
    _, number, count, labels, queue_s, inference_s, length = _ANSWER.unpack_from(message)
    end = _ANSWER.size + length
    servable = _servable_of(message[_ANSWER.size : end])
    failures = _failures_of(message[end:]) if len(message) > end else {}
    return ScoreAnswer(number, count, labels, servable, queue_s, inference_s, failures)


def write_rejection(number: int, error: FerserveError) -> bytes:
    """Encodes a REJECTED message."""
    return _NUMBERED.pack(REJECTED, number) + json.dumps(write_error(error)).encode()


def read_rejection(message: bytes) -> tuple[int, FerserveError]:
    """Decodes a REJECTED message into the number of the request and its error."""
    return read_number(message), read_error(json.loads(message[_NUMBERED.size :]))


def write_numbered(kind: int, number: int) -> bytes:
    """Encodes a CANCEL or LEFT message with a request's number, or a CLOSE message with a lease's."""
    return _NUMBERED.pack(kind, number)


def read_number(message: bytes) -> int:
    """Returns the number in a CANCEL, CLOSE, LEFT or REJECTED message."""
    number: int = _NUMBERED.unpack_from(message)[1]
    return number


@lru_cache(maxsize=256)
def _spec_bytes(spec: ModelSpec) -> bytes:
    # Names and aliases contain no NUL character on the wire, and versions start at 1.
    return _VERSION.pack(spec.version or 0) + f"{spec.name}\0{spec.alias}".encode()


@lru_cache(maxsize=256)
def _spec_of(form: bytes) -> ModelSpec:
    (version,) = _VERSION.unpack_from(form)
    name, _, alias = form[_VERSION.size :].decode().partition("\0")
    return ModelSpec(name, version or None, alias)


@lru_cache(maxsize=4096)
def _caller_bytes(caller: CallerId) -> bytes:
    return f"{caller.kind.value}\0{caller.name}".encode()


@lru_cache(maxsize=4096)
def _caller_of(form: bytes) -> CallerId:
    kind, _, name = form.decode().partition("\0")
    return CallerId(CallerKind(kind), name)


def _span_bytes(spans: tuple[SpanRef, ...]) -> bytes:
    packed = [_SPAN.pack(span.trace_id.to_bytes(16), span.span_id.to_bytes(8)) for span in spans]
    return _SPAN_COUNT.pack(len(spans)) + b"".join(packed)


def _spans_of(message: bytes, start: int) -> tuple[tuple[SpanRef, ...], int]:
    """Reads spans; returns them and the offset of what follows."""
    (count,) = _SPAN_COUNT.unpack_from(message, start)
    begin = start + _SPAN_COUNT.size
    end = begin + count * _SPAN.size
    read = _SPAN.iter_unpack(message[begin:end])
    return tuple(SpanRef(int.from_bytes(trace), int.from_bytes(span)) for trace, span in read), end


@lru_cache(maxsize=256)
def _servable_bytes(servable: ServableId) -> bytes:
    return _VERSION.pack(servable.version) + servable.name.encode()


@lru_cache(maxsize=256)
def _servable_of(form: bytes) -> ServableId:
    return ServableId(form[_VERSION.size :].decode(), _VERSION.unpack_from(form)[0])


def _failure_bytes(failures: dict[int, FerserveError]) -> bytes:
    """Groups rows by cause: a whole batch may fail for the same one."""
    rows: dict[str, list[int]] = {}
    for row, error in failures.items():
        rows.setdefault(json.dumps(write_error(error)), []).append(row)
    return json.dumps([[json.loads(form), numbers] for form, numbers in rows.items()]).encode()


def _failures_of(form: bytes) -> dict[int, FerserveError]:
    return {row: read_error(error) for error, rows in json.loads(form) for row in rows}
