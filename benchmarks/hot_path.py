"""What a request costs the server outside the model: processor time beside that of a bare gRPC echo server.

Two server processes on the same interpreter, loop and gRPC: ferserve with a model that returns at once, and one
that answers every message with about as many fixed bytes. Both get the same load in short turns, so that a machine
that changes its pace changes both. Processor time does not count what other work takes, so the figures hold on a
busy machine, give or take its caches; times of day would not.

Prints a table and writes benchmarks/results/hot_path.json. Run with `make bench-hot-path`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
import uvloop
from machine import OtherWork, machine_facts

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from ferserve_server.app import running_server
from ferserve_server.backends.fake import FakeLoader, FakeServable
from ferserve_server.observability.logging import set_up_logging
from ferserve_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ModelDescription, ServableId

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results" / "hot_path.json"
SERVICE: Final = "ferserve.v1.EmotionService"
ECHO_BYTES: Final = 60
"""Length of the echo server's answers; ours to one face takes about as many, names of classes not counted."""


@dataclass(frozen=True)
class Load:
    """One kind of load: `unary` calls, or messages of `stream`s, from so many callers at once.

    A caller of a stream is one message on its way; `STREAMS` calls share them.
    """

    kind: str
    face_count: int
    callers: int
    requests: int

    @property
    def name(self) -> str:
        """As the table has it."""
        faces = "1 face" if self.face_count == 1 else f"{self.face_count} faces"
        return f"{self.kind}, {faces}, {self.callers} at once"


STREAMS: Final = 4
LOADS: Final = (
    Load("unary", 1, 1, 400),
    Load("unary", 1, 8, 1000),
    Load("unary", 1, 32, 1500),
    Load("unary", 1, 128, 1500),
    Load("unary", 32, 8, 600),
    Load("stream", 1, 128, 3000),
    Load("stream", 32, 32, 800),
)


def cpu_seconds(pid: int) -> float:
    """Processor time, user and system, that a process and its children have taken. Linux.

    The clock of another process: clock_getcpuclockid(3) of glibc makes its number in this way.
    """
    taken = time.clock_gettime((~pid << 3) | 2)
    for task in Path(f"/proc/{pid}/task").iterdir():
        children = task / "children"
        taken += (
            sum(cpu_seconds(int(child)) for child in children.read_text().split()) if children.exists() else 0.0
        )
    return taken


class Sender:
    """Sends a load to one server, over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._unary: Any = channel.unary_unary(f"/{SERVICE}/ClassifyFaces")
        self._stream: Any = channel.stream_stream(f"/{SERVICE}/ClassifyStream")

    async def send(self, load: Load) -> None:
        """Sends all requests of a load, and returns when they are answered."""
        pixels = np.random.default_rng(0).integers(0, 256, load.face_count * 48 * 48, np.uint8).tobytes()
        faces = face_pb2.PackedFaces(pixels=pixels, face_count=load.face_count)
        if load.kind == "unary":
            request = emotion_pb2.ClassifyFacesRequest(packed=faces).SerializeToString()
            await _together(load.callers, load.requests, lambda count: self._calls(request, count))
        else:
            body = emotion_pb2.ClassifyStreamRequest(faces=faces).SerializeToString()
            window = load.callers // STREAMS
            await _together(STREAMS, load.requests, lambda count: self._messages(body, count, window))

    async def _calls(self, request: bytes, count: int) -> None:
        for _ in range(count):
            await self._unary(request, timeout=60.0)

    async def _messages(self, body: bytes, count: int, window: int) -> None:
        call = self._stream()
        for number in range(count):
            if number >= window:
                await call.read()
            head = emotion_pb2.ClassifyStreamRequest(sequence_id=number).SerializeToString()
            await call.write(head + body)  # the fields of a message may come in parts
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass


async def _together(workers: int, total: int, work: Callable[[int], Awaitable[None]]) -> None:
    shares = [total // workers + (number < total % workers) for number in range(workers)]
    await asyncio.gather(*(work(share) for share in shares))


async def measure(pid: int, sender: Sender, load: Load) -> float:
    """Processor time of a server for one load, in seconds per 1,000 requests."""
    before = cpu_seconds(pid)
    await sender.send(load)
    return (cpu_seconds(pid) - before) / load.requests * 1000


class NullServable(FakeServable):
    """Scores nothing: the same rows for every batch, made beforehand."""

    def __init__(self, servable_id: ServableId, description: ModelDescription, *, executor_count: int) -> None:
        super().__init__(servable_id, description, executor_count=executor_count)
        rows = np.full((512, len(description.labels)), 0.1, np.float32)
        rows[:, 0] = 1 - rows[0, 1:].sum()
        self._rows = rows

    def predict(self, crops: CropBatch) -> Scores:
        """The first rows."""
        return self._rows[: len(crops)]


class NullLoader(FakeLoader):
    """Makes a `NullServable` of every version."""

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:  # noqa: ARG002 - part of the port
        """Looks at no file."""
        return NullServable(servable_id, description, executor_count=len(os.sched_getaffinity(0)))


async def serve_ours() -> None:
    """Runs ferserve as `ferserve-server` does, with a model that returns at once, and prints its port."""
    set_up_logging("warning", "json")
    chosen: dict[str, Any] = {
        "model_repo": ROOT / "model_repo",
        "default_model": "fer-nano",
        "listen": "127.0.0.1:0",
        "http_listen": "off",
        "metrics_listen": "off",
        "golden_tolerance": 0.999,  # the null model says nothing of faces
        "precision": "float32",
        "tune": "fixed",
    }
    async with running_server(Settings(**chosen), NullLoader()) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()


async def serve_echo() -> None:
    """Runs the bare server, and prints its port."""
    answer = bytes(ECHO_BYTES)

    async def unary(_request: bytes, _context: object) -> bytes:
        return answer

    async def stream(requests: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield answer

    handlers: dict[str, Any] = {
        "ClassifyFaces": grpc.unary_unary_rpc_method_handler(unary),
        "ClassifyStream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


async def compare(loads: Sequence[Load], rounds: int) -> dict[str, dict[str, float]]:
    """Processor time of both servers for each load, in seconds per 1,000 requests, and their ratio: medians."""
    taken: dict[str, list[dict[str, float]]] = {load.name: [] for load in loads}
    with _server("echo") as echo, _server("ours") as ours:
        servers = {"echo": echo, "ours": ours}
        senders = {name: Sender(grpc.aio.insecure_channel(address)) for name, (_, address) in servers.items()}
        for sender in senders.values():
            await _until_ready(sender)
        for turn in range(rounds + 1):
            for load in loads:
                order = list(servers) if turn % 2 else list(reversed(servers))
                figures = {name: await measure(servers[name][0], senders[name], load) for name in order}
                if turn:  # the first warms both up
                    taken[load.name].append(figures)
    return {name: _medians(figures) for name, figures in taken.items()}


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    ratios = [each["ours"] / each["echo"] for each in rounds]
    low, _, high = statistics.quantiles(ratios)
    return {
        "echo_cpu_s": statistics.median(each["echo"] for each in rounds),
        "ours_cpu_s": statistics.median(each["ours"] for each in rounds),
        "ratio": statistics.median(ratios),
        "ratio_quartile_1": low,
        "ratio_quartile_3": high,
    }


@contextlib.contextmanager
def _server(name: str) -> Iterator[tuple[int, str]]:
    """Runs one of the servers until the block is left; gives its process number and its address."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve", name], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            port = process.stdout.readline() if process.stdout else ""
            yield process.pid, f"127.0.0.1:{int(port)}"
        finally:
            process.kill()


async def _until_ready(sender: Sender) -> None:
    while True:
        try:
            await sender.send(Load("unary", 1, 1, 1))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def main() -> None:
    """Measures, prints, writes; or is one of the servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=["echo", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="loads whose name begins so")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve_ours() if options.serve == "ours" else serve_echo())
        return
    loads = [load for load in LOADS if load.name.startswith(options.only)]
    with OtherWork() as others:
        found = uvloop.run(compare(loads, options.rounds))
        share = others.share()
    for name, figures in found.items():
        print(
            f"{name:28} echo {figures['echo_cpu_s']:.3f}  ours {figures['ours_cpu_s']:.3f} CPU-s per 1,000  ratio "
            f"{figures['ratio']:.2f} ({figures['ratio_quartile_1']:.2f} to {figures['ratio_quartile_3']:.2f})"
        )
    document = {**machine_facts(), "rounds": options.rounds, "other_work_share": round(share, 2), "loads": found}
    options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
