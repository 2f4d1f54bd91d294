"""Measures the cost of a photograph to the server: decoding, detection and cropping, in full size and as served.

One thread, alternating, in processor time: other work on the machine does not count. The photograph is the
portrait of the tests, enlarged, mirrored until it fills the frame, and grained as a camera's is, so that its file
is as large. Where it is decoded reduced, its faces are compared with those of the full picture, over several
grains; and so are, for scale, those of the full picture without its first row and column.

Prints a table and writes benchmarks/results/pictures.json. Run with `make bench`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from machine import OtherWork, machine_facts
from picture_agreement import Faces, agreement

from ferserve_vision.crop import crop_face
from ferserve_vision.decode import decode_grey, decode_pixels, read_bounded_header
from ferserve_vision.detectors.yunet import YUNET_DEFAULTS, YunetDetector
from ferserve_vision.options import DetectionOptions
from ferserve_vision.reduction import reduction_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_vision.formats.header import ImageHeader

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results" / "pictures.json"
PORTRAIT: Final = ROOT / "tests" / "media" / "astronaut.jpg"
SIZES: Final = {
    "640 x 480": (640, 480),
    "1920 x 1080": (1920, 1080),
    "4000 x 3000 (12 MP)": (4000, 3000),
    "6000 x 4000 (24 MP)": (6000, 4000),
}
JPEG_QUALITY: Final = 92
GRAIN_COUNT: Final = 8
GRAIN_LEVELS: Final = 3.0
"""Standard deviation of the grain: makes some 3 MB of 12 megapixels, as phones do."""

MAX_PIXELS: Final = 50_000_000
OPTIONS: Final = DetectionOptions()
"""The server's defaults, as is `MAX_PIXELS`."""


def photograph(width: int, height: int, seed: int = 0) -> bytes:
    """Returns a JPEG of that size, with one face as high as a quarter of it; the grain is drawn from `seed`."""
    portrait = cv2.imread(str(PORTRAIT))
    enlarged = cv2.resize(portrait, (height, height), interpolation=cv2.INTER_CUBIC)
    before = (width - height) // 2
    filled = cv2.copyMakeBorder(enlarged, 0, 0, before, width - height - before, cv2.BORDER_REFLECT)
    grain = np.random.default_rng(seed).normal(0, GRAIN_LEVELS, (height, width, 1))
    grained = np.clip(filled + grain, 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", grained, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


@dataclass(frozen=True, slots=True)
class Reading:
    """Records one reading of a picture: processor time in milliseconds, and its faces."""

    decode_ms: float
    search_and_crop_ms: float
    faces: Faces

    @property
    def total_ms(self) -> float:
        """Returns the total time."""
        return self.decode_ms + self.search_and_crop_ms


def reduction_of(header: ImageHeader) -> int:
    """Returns the reduction that the server takes with its default options."""
    defaults = YUNET_DEFAULTS
    return reduction_for(
        header, side_pixels=defaults.detection_side_pixels, min_face_pixels=defaults.min_face_pixels
    )


def read_once(detector: YunetDetector, data: bytes, *, in_full: bool) -> Reading:
    """Reads a picture as the server's threads do."""
    started_s = time.thread_time()
    header = read_bounded_header(data, MAX_PIXELS)
    grey = decode_pixels(data, header, 1 if in_full else reduction_of(header))
    decoded_s = time.thread_time()
    found = detector.detect(grey, OPTIONS)
    crops = [crop_face(grey, each) for each in found]
    ended_s = time.thread_time()
    scale = header.shown_size[0] / grey.shape[1]
    boxes = [each.mapped(scale, scale).box for each in found]
    return Reading((decoded_s - started_s) * 1e3, (ended_s - decoded_s) * 1e3, Faces(boxes, crops))


def find_shifted(detector: YunetDetector, data: bytes) -> Faces:
    """Returns the faces of the full picture without its first row and column, in the pixels of the whole."""
    grey = np.ascontiguousarray(decode_grey(data, MAX_PIXELS)[1:, 1:])
    found = detector.detect(grey, OPTIONS)
    return Faces([each.box.mapped(1, 1, 1, 1) for each in found], [crop_face(grey, each) for each in found])


def compare(detector: YunetDetector, width: int, height: int, rounds: int) -> dict[str, Any]:
    """Reads a picture both ways alternately; medians, and how far the faces agree."""
    data = photograph(width, height)
    runs: dict[bool, list[Reading]] = {True: [], False: []}
    for turn in range(rounds + 1):
        for in_full in (turn % 2 == 0, turn % 2 == 1):
            runs[in_full].append(read_once(detector, data, in_full=in_full))
    full, served = runs[True][1:], runs[False][1:]  # the first ones warmed
    ratios = [ours.total_ms / whole.total_ms for ours, whole in zip(served, full, strict=True)]
    reduction = reduction_of(read_bounded_header(data, MAX_PIXELS))
    return {
        "file_bytes": len(data),
        "reduction": reduction,
        "full": medians(full),
        "served": medians(served),
        "ratio": round(statistics.median(ratios), 3),
        "faces": None if reduction == 1 else compare_faces(detector, width, height),
    }


def compare_faces(detector: YunetDetector, width: int, height: int) -> dict[str, Any]:
    """Measures the agreement of the faces of photographs that differ by their grain."""
    photographs = [photograph(width, height, seed) for seed in range(GRAIN_COUNT)]
    full = [read_once(detector, data, in_full=True).faces for data in photographs]
    served = [read_once(detector, data, in_full=False).faces for data in photographs]
    shifted = [find_shifted(detector, data) for data in photographs]
    ways = {"full": full, "served": served, "shifted": shifted}
    return {name: agreement(full, found) for name, found in ways.items()}


def medians(runs: Sequence[Reading]) -> dict[str, float]:
    """Returns the median of each time."""
    names = ("decode_ms", "search_and_crop_ms", "total_ms")
    return {name: round(statistics.median(getattr(run, name) for run in runs), 3) for name in names}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="turns of each way")
    options = parser.parse_args()
    detector = YunetDetector()
    sizes = {}
    with OtherWork() as others:
        for name, (width, height) in SIZES.items():
            sizes[name] = found = compare(detector, width, height, options.rounds)
            print(
                f"{name:20} {found['file_bytes'] / 1e6:5.2f} MB  1/{found['reduction']}  "
                f"full {found['full']['total_ms']:7.1f} ms  as served {found['served']['total_ms']:7.1f} ms  "
                f"ratio {found['ratio']:.3f}  "
                f"{found['faces'] or ''}",
                flush=True,
            )
        share = others.share()
    document = {
        **machine_facts(),
        "other_work_share": round(share, 3),
        "rounds": options.rounds,
        "grain_count": GRAIN_COUNT,
        "sizes": sizes,
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
