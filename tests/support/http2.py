"""Implements a connection without a socket, and peers that speak HTTP/2 by hand."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from hpack import Decoder, Encoder

from ferserve_server.grpc.stream import GrpcStream, new_inflated_window
from ferserve_server.http2.connection import H2Connection
from ferserve_server.http2.flow_control import ReceiveMemory
from ferserve_server.http2.limits import RECEIVE_BUFFER_BYTES
from ferserve_server.services.limits import RequestLimits
from support.http2_frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Frame,
    FrameReader,
    Kind,
    Setting,
    message_bytes,
    write_frame,
    write_headers,
    write_settings,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ferserve_server.grpc.errors import ReceiveError
    from ferserve_server.grpc.request import RequestHead
    from ferserve_server.grpc.stream import Call

PATH = "/ferserve.v1.EmotionService/ClassifyFaces"
LIMITS = RequestLimits(
    max_message_bytes=1_000_000,
    max_metadata_bytes=4096,
    max_faces_per_request=512,
    max_images_per_request=8,
    max_detection_side_pixels=640,
)


def call_headers(path: str = PATH, **more: str) -> list[tuple[str, str]]:
    """The headers of a call as gRPC's clients send them; `_` in a further one's name stands for `-`."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *((name.replace("_", "-"), value) for name, value in more.items()),
    ]


@dataclass(eq=False)
class FakeCall:
    """A call that records what it receives, and answers when the test says so."""

    stream: GrpcStream
    head: RequestHead
    messages: list[bytes] = field(default_factory=list)
    ended: bool = False
    cancelled: bool = False
    errors: list[ReceiveError] = field(default_factory=list)
    writable_count: int = 0
    is_unary: bool = True
    ready: bool = True

    def on_message(self, message: bytes) -> None:
        self.messages.append(message)

    def on_half_close(self) -> None:
        self.ended = True

    def on_error(self, error: ReceiveError) -> None:
        self.errors.append(error)

    def on_writable(self) -> None:
        self.writable_count += 1

    def on_cancel(self) -> None:
        self.cancelled = True


class FakeRouter:
    """A router with one call for everything."""

    def __init__(self, limits: RequestLimits, begin: Any) -> None:
        self.limits = limits
        self.inflated = new_inflated_window(limits.max_message_bytes)
        self.open = begin


class H2Bench:
    """A connection on a clock of the test's, and what its peer would do and see.

    Attributes:
        now: The time, in seconds.
        calls: Those that began, in order.
        frames: What the peer has received so far.
        memory: Bounds what connections hold; may be shared.
        connection: Under test.
    """

    def __init__(
        self, limits: RequestLimits = LIMITS, *, begin: bool = True, memory: ReceiveMemory | None = None
    ) -> None:
        self.now = 100.0
        self.calls: list[FakeCall] = []
        self.frames: list[Frame] = []
        self.wake_count = 0
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._reader = FrameReader()
        self.memory = memory or ReceiveMemory(RECEIVE_BUFFER_BYTES, limits.max_message_bytes + 16)
        router: Any = FakeRouter(limits, self._begin)
        make = partial(GrpcStream, router)
        header_bytes = 2 * limits.max_metadata_bytes
        self.connection = H2Connection(make, self.memory, header_bytes, lambda: self.now, self._wake)
        if begin:
            self.send(PREFACE + write_settings({}) + write_frame(Kind.SETTINGS, ACK, 0))

    def send(self, *parts: bytes) -> list[Frame]:
        """Sends bytes, and returns the frames that come back."""
        self.connection.receive(b"".join(parts))
        self.connection.handle_events()
        return self.read()

    def read(self) -> list[Frame]:
        """Frames that came since the last look."""
        frames: list[Frame] = []
        while output := self.connection.output():
            frames += self._reader.feed(output)
        self.frames += frames
        return frames

    def headers(self, stream_id: int, *, end: bool = False, **more: str) -> bytes:
        """The HEADERS of a call."""
        block = self._encoder.encode(call_headers(**more))
        return write_headers(stream_id, block, END_STREAM if end else 0)

    def block(self, headers: Iterable[tuple[str, str]]) -> bytes:
        """A header block in the peer's state of HPACK."""
        return self._encoder.encode(headers)

    def call(self, stream_id: int, message: bytes = b"faces", **more: str) -> bytes:
        """A whole unary call."""
        return self.headers(stream_id, **more) + self.data(stream_id, message_bytes(message), end=True)

    @staticmethod
    def data(stream_id: int, data: bytes, *, end: bool = False) -> bytes:
        """A DATA frame."""
        return write_frame(Kind.DATA, END_STREAM if end else 0, stream_id, data)

    def open(self, stream_id: int, **more: str) -> FakeCall:
        """Opens a call, and returns it."""
        self.send(self.headers(stream_id, **more))
        return self.calls[-1]

    def decoded(self, frame: Frame) -> dict[str, str]:
        """The headers of a HEADERS frame that came."""
        assert frame.kind == Kind.HEADERS
        assert frame.flags & END_HEADERS
        return {str(name): str(value) for name, value in self._decoder.decode(frame.payload)}

    def error_code(self) -> int | None:
        """The code that the connection ended with, None if it is open."""
        self.read()
        gone = [frame for frame in self.frames if frame.kind == Kind.GOAWAY]
        return int.from_bytes(gone[-1].payload[4:8]) if gone else None

    def _begin(self, stream: GrpcStream, head: RequestHead) -> Call | None:
        call = FakeCall(stream, head)
        self.calls.append(call)
        return call

    def _wake(self) -> None:
        self.wake_count += 1


def kinds(frames: Iterable[Frame]) -> list[int]:
    """The types of frames, acknowledgements of settings left out."""
    return [frame.kind for frame in frames if not (frame.kind == Kind.SETTINGS and frame.flags & ACK)]


@dataclass
class Answer:
    """What came of a call."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> str:
        return self.headers.get("grpc-status", "")


class H2Peer:
    """A client on a real socket that the library `h2` runs: strict, and independent of what it talks to.

    Attributes:
        connection: The library's state.
        answers: What came, by stream.
        gone: The code of the server's GOAWAY, or None.
        closed: Whether the server closed the connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._frames = FrameReader()
        self.answers: dict[int, Answer] = {}
        self.gone: int | None = None
        self.closed = False
        self.acknowledge = True
        """Whether the windows grow again with what is read."""

    def begin(self, settings: dict[Setting, int] | None = None) -> None:
        """Sends the preface, with these settings."""
        if settings:
            chosen = {h2.settings.SettingCodes(int(name)): value for name, value in settings.items()}
            self.connection.local_settings.update(chosen)
            self.connection.local_settings.acknowledge()
            self.connection.decoder.max_allowed_table_size = self.connection.local_settings.header_table_size
        self.connection.initiate_connection()

    def call(self, message: bytes | None, path: str = PATH, *, end: bool = True, **more: str) -> int:
        """Begins a call, with its message if there is one; returns the stream's number."""
        stream_id = self.begin_call(call_headers(path, **more), end=message is None and end)
        if message is not None:
            data = message_bytes(message)
            for at in range(0, len(data), 16_384):
                self.connection.send_data(stream_id, data[at : at + 16_384])
            if end:
                self.connection.end_stream(stream_id)
        return stream_id

    def begin_call(self, headers: list[tuple[str, str]], *, end: bool) -> int:
        """Sends headers, and returns the stream's number."""
        stream_id = int(self.connection.get_next_available_stream_id())
        self.answers[stream_id] = Answer()
        self.connection.send_headers(stream_id, headers, end_stream=end)
        return stream_id

    async def flush(self) -> None:
        """Sends what the library has to say."""
        self._writer.write(self.connection.data_to_send())
        try:
            await self._writer.drain()
        except ConnectionError:
            self.closed = True

    def write(self, data: bytes) -> None:
        """Sends bytes behind the library's back."""
        self._writer.write(data)

    async def read_some(self) -> None:
        """Reads what comes next, and answers it as the protocol has it."""
        data = await self._reader.read(65_536)
        if not data:
            self.closed = True
            return
        for frame in self._frames.feed(data):
            try:
                for event in self.connection.receive_data(write_frame(*frame)):
                    self._note(event)
            except h2.exceptions.ProtocolError:
                if self.gone is None:
                    raise
                # After a GOAWAY the library takes nothing any more; others still answer pings.
                if frame.kind == Kind.PING and not frame.flags & ACK:
                    self.write(write_frame(Kind.PING, ACK, 0, frame.payload))
        await self.flush()

    async def until(self, condition: Any, timeout_s: float = 20.0) -> None:
        """Reads until a condition holds, or the server closes the connection."""
        await self.flush()
        async with asyncio.timeout(timeout_s):
            while not condition() and not self.closed:
                await self.read_some()

    async def answer(self, stream_id: int) -> Answer:
        """Reads until a call is answered."""
        found = self.answers[stream_id]
        await self.until(lambda: found.ended or found.reset is not None)
        return found

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                self.answers[event.stream_id].headers.update(event.headers)
            case h2.events.DataReceived():
                self.answers[event.stream_id].data += event.data
                if self.acknowledge:
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.answers[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.answers[event.stream_id].reset = int(event.error_code)
            case h2.events.ConnectionTerminated():
                self.gone = int(event.error_code)


@contextlib.asynccontextmanager
async def h2_peer(port: int, settings: dict[Setting, int] | None = None) -> AsyncIterator[H2Peer]:
    """Connects to a port of the loopback until the block is left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        peer = H2Peer(reader, writer)
        peer.begin(settings)
        await peer.flush()
        yield peer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
