"""Makes mutated HTTP/2 exchanges of gRPC clients from seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpack import Encoder

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from support.http2 import PATH, call_headers
from support.http2_frames import (
    ACK,
    END_STREAM,
    PREFACE,
    Kind,
    Setting,
    message_bytes,
    write_frame,
    write_headers,
    write_reset,
    write_settings,
)

if TYPE_CHECKING:
    import random

_SIZES = (0, 1, 5, 100, 2_309, 16_384, 70_000, 131_072)
_PACKED = face_pb2.PackedFaces(pixels=bytes(2 * 48 * 48), face_count=2)
_SERVICE = "/ferserve.v1.EmotionService/"
_CALLS = {
    PATH: emotion_pb2.ClassifyFacesRequest(packed=_PACKED).SerializeToString(),
    _SERVICE + "ClassifyStream": emotion_pb2.ClassifyStreamRequest(
        sequence_id=1, faces=_PACKED
    ).SerializeToString(),
    _SERVICE + "StreamFrames": b"",
    _SERVICE + "AnalyzeImages": b"",
    "/ferserve.v1.ModelService/ListModels": b"",
    "/grpc.health.v1.Health/Check": b"",
    "/grpc.health.v1.Health/Watch": b"",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": b"\x3a\x00",
    "/inference.GRPCInferenceService/ServerLive": b"",
    "/no/such": b"",
}
"""Paths, each with a valid message."""


def exchange(chosen: random.Random) -> bytes:
    """What a client sends: mostly right."""
    return _mutated(_frames(chosen), chosen)


def _frames(chosen: random.Random) -> list[bytes]:
    encoder = Encoder()
    frames = [PREFACE, write_settings({}), write_frame(Kind.SETTINGS, ACK, 0)]
    for stream_id in range(1, 2 * chosen.randint(1, 20), 2):
        encoding = chosen.choice(["identity", "gzip", "snappy"])
        more = {"grpc_encoding": encoding, "grpc_timeout": chosen.choice(["1S", "5m", "x"])}
        path = chosen.choice(sorted(_CALLS))
        headers = call_headers(path, **dict(chosen.sample(sorted(more.items()), chosen.randint(0, 2))))
        frames.append(write_headers(stream_id, encoder.encode(headers), 0))
        valid = chosen.random() < 0.5
        body = message_bytes(_CALLS[path] if valid else chosen.randbytes(chosen.choice(_SIZES)))
        body *= chosen.choice((1, 1, 1, 3))
        size = chosen.choice((1_000, 16_384, 131_072))
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        last = len(parts) - 1
        frames += [
            write_frame(Kind.DATA, END_STREAM if at == last else 0, stream_id, part)
            for at, part in enumerate(parts)
        ]
        frames += chosen.sample(
            [
                write_reset(stream_id, chosen.choice((0, 5, 8))),  # type: ignore[arg-type]  # any number
                write_frame(Kind.PING, 0, 0, bytes(8)),
                write_frame(Kind.WINDOW_UPDATE, 0, chosen.choice((0, stream_id)), chosen.randbytes(4)),
                write_settings({Setting.INITIAL_WINDOW_SIZE: chosen.choice((0, 10, 2**31 - 1))}),
                write_frame(chosen.randrange(256), chosen.randrange(256), stream_id, chosen.randbytes(9)),
            ],
            chosen.choice((0, 0, 1, 3)),
        )
    return frames


def _mutated(frames: list[bytes], chosen: random.Random) -> bytes:
    for _ in range(chosen.choice((0, 1, 1, 2, 8))):
        at = chosen.randrange(len(frames))
        match chosen.randrange(5):
            case 0:
                frames.insert(at, frames[at])
            case 1:
                frames.pop(at)
                frames.append(b"")
            case 2:
                other = chosen.randrange(len(frames))
                frames[at], frames[other] = frames[other], frames[at]
            case 3 if frames[at]:
                data = bytearray(frames[at])
                data[chosen.randrange(len(data))] = chosen.randrange(256)
                frames[at] = bytes(data)
            case _:
                frames[at] = frames[at][: chosen.randrange(len(frames[at]) + 1)]
    return b"".join(frames)
