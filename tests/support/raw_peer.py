"""Sends bytes to a gRPC server over a socket, and says what became of the stream and the connection."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from hpack import Decoder, Encoder

from support.http2_frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Frame,
    FrameReader,
    Kind,
    message_bytes,
    read_settings,
    write_frame,
    write_settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ANSWER_S: Final = 20.0
"""Time in which a server must answer, on a busy machine."""

SILENCE_S: Final = 3.0
"""Time without an answer after which there is none: the server has acknowledged a later ping before."""

EMPTY_CALL: Final = "/grpc.testing.TestService/EmptyCall"
DUPLEX_CALL: Final = "/grpc.testing.TestService/FullDuplexCall"
UNARY_CALL: Final = "/grpc.testing.TestService/UnaryCall"
INPUT_CALL: Final = "/grpc.testing.TestService/StreamingInputCall"
EMPTY_MESSAGE: Final = message_bytes(b"")

Header = tuple[str | bytes, str | bytes]


def request(path: str = EMPTY_CALL, *more: Header, without: str = "", **changed: str) -> list[Header]:
    """The headers of a call; `changed` ones by the name without the colon, `without` one, `more` at the end."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    headers |= {f":{name}": value for name, value in changed.items()}
    headers.pop(without, None)
    return [*headers.items(), *more]


@dataclass
class Answer:
    """What came on a stream.

    Attributes:
        headers: Of the response and its trailers; names and values.
        data: All of it.
        kinds: Types of the frames, in order.
        ended: Whether the response is complete.
        reset: Code of the reset, or None.
    """

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    kinds: list[int] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None

    @property
    def status(self) -> str | None:
        return self.headers.get("grpc-status")


class RawPeer:
    """A client that sends what a test says, right or wrong.

    Attributes:
        frames: What came, in order.
        answers: By stream.
        go_away: Code of the server's GOAWAY, or None.
        closed: Whether the server closed the connection.
        settings: Of the server.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=ANSWER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = FrameReader(2**24, 2**24)
        self.encoder = Encoder()
        self._decoder = Decoder()
        self._block = b""
        self._pings = 0
        self._acknowledged: set[bytes] = set()
        self.frames: list[Frame] = []
        self.answers: dict[int, Answer] = {}
        self.go_away: int | None = None
        self.closed = False
        self.settings: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def begin(self, settings: bytes | None = None) -> None:
        """Exchanges settings."""
        self.send(PREFACE + (settings or write_settings({})))
        self.read_until(lambda: self.settings_frames >= 2)
        self.send(write_frame(Kind.SETTINGS, ACK, 0))

    @property
    def settings_frames(self) -> int:
        """Number of the server's settings and acknowledgements."""
        return sum(frame.kind == Kind.SETTINGS for frame in self.frames)

    @property
    def failed(self) -> bool:
        """Whether the server ended the connection."""
        return self.closed or bool(self.go_away)

    def send(self, *parts: bytes) -> None:
        """Sends bytes; a connection that the server has closed is noted."""
        try:
            self._socket.sendall(b"".join(parts))
        except OSError:
            self.closed = True

    def headers(self, headers: Iterable[Header], stream_id: int = 1, *, end: bool = False) -> bytes:
        """A HEADERS frame."""
        block = self.encoder.encode(headers)
        return write_frame(Kind.HEADERS, END_HEADERS | (END_STREAM if end else 0), stream_id, block)

    def call(self, stream_id: int = 1, headers: Iterable[Header] | None = None) -> bytes:
        """A whole call with an empty message."""
        return self.headers(request() if headers is None else headers, stream_id) + self.last(stream_id)

    @staticmethod
    def last(stream_id: int = 1, data: bytes = EMPTY_MESSAGE) -> bytes:
        """A DATA frame that ends a request."""
        return write_frame(Kind.DATA, END_STREAM, stream_id, data)

    def answer(self, stream_id: int = 1) -> Answer:
        """Reads until a stream is over, and returns what came on it."""
        self.read_until(lambda: self.answers.get(stream_id, Answer()).over or self.failed)
        return self.answers.get(stream_id, Answer())

    def read_until(self, condition: Callable[[], bool], timeout_s: float = ANSWER_S) -> bool:
        """Reads until a condition holds, the connection is closed, or time is up; returns whether it holds."""
        end = time.monotonic() + timeout_s
        while not condition() and not self.closed and (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
                break
            for frame in self._reader.feed(data):
                self._note(frame)
        return condition()

    def alive(self) -> bool:
        """Whether the server answers a ping: everything that was sent before has been parsed then."""
        self._pings += 1
        payload = self._pings.to_bytes(8)
        self.send(write_frame(Kind.PING, 0, 0, payload))
        return self.read_until(lambda: payload in self._acknowledged or self.failed) and not self.failed

    def answers_calls(self, stream_id: int) -> bool:
        """Whether the server answers a call on the same connection."""
        self.send(self.call(stream_id))
        return self.answer(stream_id).status == "0"

    def _note(self, frame: Frame) -> None:
        self.frames.append(frame)
        answer = self.answers.setdefault(frame.stream_id, Answer())
        answer.kinds.append(frame.kind)
        match frame.kind:
            case Kind.SETTINGS if not frame.flags & ACK:
                self.settings.update(read_settings(frame))
            case Kind.PING if frame.flags & ACK:
                self._acknowledged.add(frame.payload)
            case Kind.PING:
                self.send(write_frame(Kind.PING, ACK, 0, frame.payload))
            case Kind.GOAWAY:
                self.go_away = int.from_bytes(frame.payload[4:8])
            case Kind.RST_STREAM:
                answer.reset = int.from_bytes(frame.payload)
            case Kind.DATA:
                answer.data += frame.payload
                answer.ended |= bool(frame.flags & END_STREAM)
            case Kind.HEADERS | Kind.CONTINUATION:
                self._block += frame.payload
                answer.ended |= frame.kind == Kind.HEADERS and bool(frame.flags & END_STREAM)
                if frame.flags & END_HEADERS:
                    block, self._block = self._block, b""
                    answer.headers.update(
                        (name.decode("latin-1"), value.decode("latin-1"))
                        for name, value in self._decoder.decode(block, raw=True)
                    )
