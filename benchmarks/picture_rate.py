"""Measures pictures per second of AnalyzeImages, and the processor time of a picture beside a bare loop's.

Two servers run side by side and are loaded alternately: one with the Haar cascade as the server's first version
searched (copies of 640 pixels), one with the defaults. The bare loop decodes, detects with OpenCV's YuNet, crops
and classifies with the same ONNX model on one thread, without a server. The processor time of the servers is that
of all their processes; the callers' is not counted.

Prints a table and writes benchmarks/results/picture_rate.json:
    python benchmarks/picture_rate.py --picture PICTURE.jpg
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import grpc
import numpy as np
from load.process_tree import cpu_s, processes_of
from machine import OtherWork, machine_facts
from servers import free_port, is_serving, server_command

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc
from ferserve_vision.crop import crop_face
from ferserve_vision.detectors.yunet import YUNET_DEFAULTS
from ferserve_vision.detectors.yunet_file import read_yunet
from ferserve_vision.geometry import Box, Detection, Landmarks, Point

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import RunningServer

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results" / "picture_rate.json"
PORTRAIT: Final = ROOT / "tests" / "media" / "astronaut.jpg"
MODEL: Final = "fer-small"
SERVERS: Final = {
    "haar": ["--detector", "haar", "--detection-side-pixels", "640", "--min-face-pixels", "40"],
    "yunet": [],
}
CALLERS: Final = 8


@dataclass(frozen=True, slots=True)
class Round:
    """Holds one round of load: pictures per second, and processor milliseconds per picture."""

    rate: float
    cpu_ms: float


def vga(path: Path) -> bytes:
    """Scales a picture to fit 640x480, on grey, as a JPEG."""
    picture: Any = cv2.imread(str(path))
    share = min(640 / picture.shape[1], 480 / picture.shape[0])
    small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    canvas = np.full((480, 640, 3), 128, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    return cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


@contextlib.contextmanager
def server(arguments: list[str], folder: Path) -> Iterator[RunningServer]:
    """Runs a server on the bundled models until the block is left."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        *(sys.executable, "-m", "ferserve_server", "--model-repo", str(ROOT / "model_repo"), "--listen", address),
        *("--metrics-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", *arguments),
    ]
    with server_command(command, address, is_serving, folder / "log") as running:
        yield running


async def load(address: str, image: bytes, seconds: float) -> int:
    """Calls AnalyzeImages from several callers at once, and returns the number of answers."""
    request = emotion_pb2.AnalyzeImagesRequest(images=[image])
    request.model.name = MODEL
    answered = 0
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)  # type: ignore[no-untyped-call]
        await stub.AnalyzeImages(request)
        ends_at = time.perf_counter() + seconds

        async def call() -> None:
            nonlocal answered
            while time.perf_counter() < ends_at:
                await stub.AnalyzeImages(request)
                answered += 1

        await asyncio.gather(*(call() for _ in range(CALLERS)))
    return answered


def loaded(running: RunningServer, image: bytes, seconds: float) -> Round:
    """Loads a server for one round."""
    pids = processes_of(running.pid, running.tag)
    before, started = cpu_s(pids), time.perf_counter()
    answered = asyncio.run(load(running.address, image, seconds))
    spent_s = time.perf_counter() - started
    return Round(answered / spent_s, (cpu_s(pids) - before) / answered * 1e3)


class BareLoop:
    """Decodes, detects, crops and classifies on one thread, with nothing around it."""

    def __init__(self) -> None:
        import onnxruntime  # noqa: PLC0415 - an extra of the server

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = next((ROOT / "model_repo" / MODEL).glob("*/assets.extra/model.onnx"))
        self._session = onnxruntime.InferenceSession(str(path), options)
        self._input = self._session.get_inputs()[0].name
        cv2.setNumThreads(1)
        model = np.frombuffer(read_yunet(), np.uint8)
        self._yunet = cv2.FaceDetectorYN.create("onnx", model, np.empty(0, np.uint8), (480, 360), 0.8)

    def run(self, image: bytes) -> int:
        """Analyses one picture and returns the number of faces."""
        grey: Any = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
        share = YUNET_DEFAULTS.detection_side_pixels / max(grey.shape)
        copy = cv2.resize(grey, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        self._yunet.setInputSize((copy.shape[1], copy.shape[0]))
        _, rows = self._yunet.detect(cv2.merge((copy, copy, copy)))
        faces = [] if rows is None else (rows[:, :14] / share).tolist()
        crops = [
            crop_face(grey, Detection(Box(*face[:4]), 1.0, Landmarks(*map(Point, face[4::2], face[5::2]))))
            for face in faces
        ]
        if crops:
            self._session.run(["probabilities"], {self._input: np.stack(crops)[..., np.newaxis]})
        return len(crops)

    def measure(self, image: bytes, seconds: float) -> Round:
        """Runs for one round."""
        ends_at, count = time.perf_counter() + seconds, 0
        started, cpu_started = time.perf_counter(), time.process_time()
        while time.perf_counter() < ends_at:
            self.run(image)
            count += 1
        return Round(count / (time.perf_counter() - started), (time.process_time() - cpu_started) / count * 1e3)


def median(rounds: list[Round]) -> dict[str, float]:
    """Returns the medians of rounds."""
    return {
        "pictures_per_s": round(statistics.median(each.rate for each in rounds), 1),
        "cpu_ms": round(statistics.median(each.cpu_ms for each in rounds), 2),
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, default=PORTRAIT, help="the picture, scaled to 640x480")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of a run")
    options = parser.parse_args()
    image, bare = vga(options.picture), BareLoop()
    rounds: dict[str, list[Round]] = {"bare loop": [], **{name: [] for name in SERVERS}}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        running = {}
        for name, arguments in SERVERS.items():
            place = Path(folder) / name
            place.mkdir()
            running[name] = stack.enter_context(server(arguments, place))
        others = stack.enter_context(OtherWork(*(each.pid for each in running.values())))
        face_count = bare.run(image)
        for number in range(options.rounds + 1):
            servers_by_name = {"bare loop": bare.measure(image, options.seconds)}
            servers_by_name |= {name: loaded(each, image, options.seconds) for name, each in running.items()}
            if number:  # the first one warmed
                for name, each in servers_by_name.items():
                    rounds[name].append(each)
        share = others.share()
    figures = {name: median(each) for name, each in rounds.items()}
    speedups = [new.rate / old.rate for new, old in zip(rounds["yunet"], rounds["haar"], strict=True)]
    costs = [new.cpu_ms / old.cpu_ms for new, old in zip(rounds["yunet"], rounds["bare loop"], strict=True)]
    document = {
        **machine_facts(),
        "other_work_share": round(share, 3),
        "rounds": options.rounds,
        "face_count": face_count,
        "figures": figures,
        "speedup": round(statistics.median(speedups), 2),
        "cpu_of_bare_loop": round(statistics.median(costs), 2),
    }
    for name, row in figures.items():
        print(f"{name:10} {row['pictures_per_s']:7.1f} pictures/s  {row['cpu_ms']:7.2f} CPU-ms a picture")
    print(f"speed-up {document['speedup']}, processor time of the bare loop times {document['cpu_of_bare_loop']}")
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
