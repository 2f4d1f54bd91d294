"""Measures what it would cost to decode pictures in a process of their own, in processor time, alternately.

A child decodes what it finds in shared memory, and leaves the grey levels there; two short messages a picture. The
same pictures are decoded on a thread, as the server does. Writes benchmarks/results/decode_processes.json.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from loads import ROOT
from machine import OtherWork, machine_facts

from ferserve_vision.crop import to_model_input
from ferserve_vision.decode import decode_pixels, read_bounded_header
from ferserve_vision.detectors.yunet import OpenCvNetwork, YunetDetector
from ferserve_vision.detectors.yunet_file import read_yunet
from ferserve_vision.options import DetectionOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHARED_BYTES: Final = 64 * 2**20
OUTPUT_AT: Final = SHARED_BYTES // 2
MAX_PIXELS: Final = 50_000_000
ROUNDS: Final = 7
ROUND_S: Final = 0.15
"""Least processor time of a round, so that its clock of 10 ms counts for little."""

_PICTURE: Final = struct.Struct("<II")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def decode(data: bytes, reduction: int) -> Any:  # noqa: ANN401 - an array
    """Decodes a picture to grey levels."""
    return decode_pixels(data, read_bounded_header(data, MAX_PIXELS), reduction)


def serve(descriptor: int, memory: int) -> None:
    """Decodes what the parent puts into the shared memory, until it closes the socket."""
    cv2.setNumThreads(1)
    peer, shared = socket.socket(fileno=descriptor), mmap.mmap(memory, 0)
    view = np.frombuffer(shared, np.uint8)
    while request := peer.recv(4096):
        at, out, shapes = 0, OUTPUT_AT, b""
        for length, reduction in _PICTURE.iter_unpack(request):
            grey = decode(bytes(shared[at : at + length]), reduction)
            view[out : out + grey.size] = grey.ravel()
            at, out, shapes = at + length, out + grey.size, shapes + _PICTURE.pack(*grey.shape)
        peer.send(shapes)


class Child:
    """A process that decodes; ended on leaving the block."""

    def __init__(self) -> None:
        memory = os.memfd_create("pictures")
        os.ftruncate(memory, SHARED_BYTES)
        self._shared = mmap.mmap(memory, 0)
        self._view = np.frombuffer(self._shared, np.uint8)
        self._peer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, __file__, "serve", str(theirs.fileno()), str(memory)]
        self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(), memory))
        theirs.close()

    def decode(self, pictures: Sequence[tuple[bytes, int]]) -> list[Any]:
        """Decodes pictures, each with its reduction, to views of the shared memory."""
        data = b"".join(each for each, _ in pictures)
        self._shared[: len(data)] = data
        self._peer.send(b"".join(_PICTURE.pack(len(each), reduction) for each, reduction in pictures))
        at, found = OUTPUT_AT, []
        for height, width in _PICTURE.iter_unpack(self._peer.recv(4096)):
            found.append(self._view[at : at + height * width].reshape(height, width))
            at += height * width
        return found

    def cpu_s(self) -> float:
        """Returns its processor time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def private_mib(self) -> float:
        """Returns the memory that it alone holds."""
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024

    def close(self) -> None:
        """Ends it."""
        self._peer.close()
        self._process.wait()


def measure(on_thread: Callable[[], object], in_process: Callable[[], object], child: Child) -> dict[str, float]:
    """Measures both alternately; returns medians of the processor time in milliseconds, and their ratio."""
    started_s = time.process_time()
    on_thread()
    count = max(3, round(ROUND_S / max(1e-6, time.process_time() - started_s)))
    taken_ms: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * ROUNDS):
        own = number % 4 in {0, 3}
        started_s = time.process_time() + child.cpu_s()
        for _ in range(count):
            (on_thread if own else in_process)()
        taken_ms[own].append((time.process_time() + child.cpu_s() - started_s) / count * 1e3)
    thread_ms, process_ms = statistics.median(taken_ms[True]), statistics.median(taken_ms[False])
    return {
        "thread_ms": round(thread_ms, 3),
        "process_ms": round(process_ms, 3),
        "throughput_ratio": round(thread_ms / process_ms, 3),
    }


def main() -> None:
    """Measures, prints and writes."""
    cv2.setNumThreads(1)
    photograph = cv2.imread(str(ROOT / "tests" / "media" / "astronaut.jpg"))
    detector, options = YunetDetector(OpenCvNetwork(read_yunet())), DetectionOptions()

    def jpeg(width: int, height: int) -> bytes:
        return bytes(cv2.imencode(".jpg", cv2.resize(photograph, (width, height)))[1])

    child, found = Child(), {}
    with OtherWork() as others:
        for name, picture in (("640 x 480", (jpeg(640, 480), 1)), ("1920 x 1080", (jpeg(1920, 1080), 1))):
            found[f"{name}, searched"] = measure(
                lambda picture=picture: detector.detect(decode(*picture), options),  # type: ignore[misc]
                lambda picture=picture: detector.detect(child.decode([picture])[0], options),  # type: ignore[misc]
                child,
            )
        for count in (32, 1):
            crops = [(jpeg(48, 48), 1)] * count
            found[f"{count} crops of 48 x 48"] = measure(
                lambda crops=crops: [to_model_input(decode(*each)) for each in crops],  # type: ignore[misc]
                lambda crops=crops: [to_model_input(each) for each in child.decode(crops)],  # type: ignore[misc]
                child,
            )
        share = others.share()
    document = {
        **machine_facts(),
        "other_work_share": round(share, 3),
        "rounds": ROUNDS,
        "child_private_mib": round(child.private_mib(), 1),
        "processor_time": found,
    }
    child.close()
    print(json.dumps(document, indent=2))
    (ROOT / "benchmarks" / "results" / "decode_processes.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
