"""Compressed messages."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace

import pytest

from ferserve_server.domain.errors import FerserveError
from ferserve_server.grpc.errors import MessageError
from ferserve_server.grpc.messages import MessageReader
from ferserve_server.http2 import limits
from support.http2 import LIMITS, FakeCall, H2Bench

MAKERS = {"gzip": gzip.compress, "deflate": zlib.compress}


def _compressed(message: bytes, encoding: str = "gzip") -> bytes:
    data = MAKERS[encoding](message)
    return b"\1" + len(data).to_bytes(4) + data


def _plain(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


@pytest.mark.parametrize("encoding", MAKERS)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_messages_come_out_as_they_were_whichever_of_them_are_compressed(encoding: str, step: int) -> None:
    reader = MessageReader(LIMITS, encoding)
    messages = [b"", b"a" * 1000, b"b", bytes(range(256)) * 9]
    data = b"".join((_compressed(each, encoding), _plain(each))[at % 2] for at, each in enumerate(messages))
    found = [each for at in range(0, len(data), step) for each in reader.feed(data[at : at + step])]
    assert (found, reader.fault, reader.partial) == (messages, None, False)


def _fault(reader: MessageReader, data: bytes) -> MessageError | FerserveError:
    assert reader.feed(_plain(b"before") + data) == [b"before"]
    assert reader.fault is not None
    assert reader.feed(_plain(b"after")) == []
    return reader.fault


@pytest.mark.parametrize(
    ("encoding", "data", "code", "words"),
    [
        ("identity", _compressed(b"a"), 13, "names no grpc-encoding"),
        ("snappy", _compressed(b"a"), 12, "'snappy' are not read"),
        ("gzip", b"\1\0\0\0\5abcde", 13, "no gzip"),
        ("gzip", _compressed(b"a", "deflate"), 13, "no gzip"),
        ("deflate", _compressed(b"a"), 13, "no deflate"),
        ("gzip", b"\1\0\0\0\0", 13, "no whole gzip"),
    ],
)
def test_what_cannot_be_decompressed_ends_the_call(encoding: str, data: bytes, code: int, words: str) -> None:
    fault = _fault(MessageReader(LIMITS, encoding), data)
    assert isinstance(fault, MessageError)
    assert words in str(fault)
    assert b"grpc-status" + bytes([len(str(code))]) + str(code).encode() in fault.trailers
    assert (b"identity,deflate,gzip" in fault.trailers) is (code == 12)


def test_bytes_behind_the_end_of_what_was_compressed_are_refused() -> None:
    data = gzip.compress(b"a") + b"more"
    fault = _fault(MessageReader(LIMITS, "gzip"), b"\1" + len(data).to_bytes(4) + data)
    assert "no whole gzip" in str(fault)


def test_no_more_is_made_of_a_message_than_one_may_have() -> None:
    limits = replace(LIMITS, max_message_bytes=1000)
    assert MessageReader(limits, "gzip").feed(_compressed(bytes(1000))) == [bytes(1000)]
    fault = _fault(MessageReader(limits, "gzip"), _compressed(bytes(10_000_000)))
    assert isinstance(fault, FerserveError)
    assert fault.reason == "MESSAGE_TOO_LARGE"


def test_windows_count_what_came_over_the_wire() -> None:
    bench = H2Bench()
    call = bench.open(1, grpc_encoding="gzip")
    call.is_unary = False
    message = bytes(range(256)) * 1000
    sent = 0
    while sent < 2 * limits.STREAM_WINDOW_BYTES:
        data = _compressed(message)
        bench.send(bench.data(1, data))
        sent += len(data)
        call.stream.release(call.messages.pop())
    assert bench.error_code() is None


def _with_zeros(bench: H2Bench, stream_id: int) -> FakeCall:
    call = bench.open(stream_id, grpc_encoding="gzip")
    bench.send(bench.data(stream_id, _compressed(bytes(LIMITS.max_message_bytes))))
    return call


def test_compressed_messages_of_a_connection_have_a_bound_together() -> None:
    bench = H2Bench()
    most = limits.MAX_INFLATED_BYTES // LIMITS.max_message_bytes
    calls = [_with_zeros(bench, 2 * at + 1) for at in range(most + 1)]
    assert [bool(call.errors) for call in calls] == [False] * most + [True]
    assert "Send fewer at a time" in str(calls[-1].errors[0])
    # What is answered, or let go of, makes room.
    calls[-1].stream.finish(b"")
    calls[0].stream.finish(b"")
    calls[1].stream.release(calls[1].messages[0])
    again = [_with_zeros(bench, 2 * most + 3 + 2 * at) for at in range(3)]
    assert [bool(call.errors) for call in again] == [False, False, True]
