"""What a photograph costs the server: decoded, searched and its faces cut out, in full and as it is served.

One thread, in turns, processor time: what other work takes of the machine does not count. The photograph is the
portrait of the tests, enlarged, mirrored until it fills the frame, and grained as a camera's is, so that its file
is as large. Prints a table and writes benchmarks/results/pictures.json. Run with `make bench`.
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

from ferserve_server.domain.detection import DetectionOptions
from ferserve_server.vision.crop import crop_face
from ferserve_server.vision.decode import decode_pixels, read_bounded_header
from ferserve_server.vision.haar import HaarDetector
from ferserve_server.vision.reduction import reduction_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.face import BoundingBox, FaceCrop

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
GRAIN_LEVELS: Final = 3.0
"""Standard deviation of the grain: makes some 3 MB of 12 megapixels, as phones do."""

MAX_PIXELS: Final = 50_000_000
OPTIONS: Final = DetectionOptions()
"""The server's defaults, as is `MAX_PIXELS`."""


def photograph(width: int, height: int) -> bytes:
    """A JPEG of that size, with one face as high as a quarter of it."""
    portrait = cv2.imread(str(PORTRAIT))
    enlarged = cv2.resize(portrait, (height, height), interpolation=cv2.INTER_CUBIC)
    before = (width - height) // 2
    filled = cv2.copyMakeBorder(enlarged, 0, 0, before, width - height - before, cv2.BORDER_REFLECT)
    grain = np.random.default_rng(0).normal(0, GRAIN_LEVELS, (height, width, 1))
    grained = np.clip(filled + grain, 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", grained, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


@dataclass(frozen=True, slots=True)
class Reading:
    """A picture that was read once: processor time in milliseconds, and the boxes and crops of its faces."""

    decode_ms: float
    search_and_crop_ms: float
    boxes: list[BoundingBox]
    crops: list[FaceCrop]

    @property
    def total_ms(self) -> float:
        """All of it."""
        return self.decode_ms + self.search_and_crop_ms


def read_once(detector: HaarDetector, data: bytes, *, in_full: bool) -> Reading:
    """Reads a picture as the server's threads do."""
    started_s = time.thread_time()
    header = read_bounded_header(data, MAX_PIXELS)
    grey = decode_pixels(data, header, 1 if in_full else reduction_for(header, OPTIONS))
    decoded_s = time.thread_time()
    boxes = detector.detect(grey, OPTIONS, header.shown_size)
    crops = [crop_face(grey, box, OPTIONS.crop_margin, header.shown_size) for box in boxes]
    ended_s = time.thread_time()
    return Reading((decoded_s - started_s) * 1e3, (ended_s - decoded_s) * 1e3, boxes, crops)


def compare(detector: HaarDetector, data: bytes, rounds: int) -> dict[str, Any]:
    """Reads a picture both ways in turns; medians, and how well the faces agree."""
    full, served = [], []
    for turn in range(rounds + 1):
        if turn % 2:
            full.append(read_once(detector, data, in_full=True))
            served.append(read_once(detector, data, in_full=False))
        else:
            served.append(read_once(detector, data, in_full=False))
            full.append(read_once(detector, data, in_full=True))
    del full[0], served[0]  # they warmed
    ratios = [ours.total_ms / whole.total_ms for ours, whole in zip(served, full, strict=True)]
    return {
        "file_bytes": len(data),
        "reduction": reduction_for(read_bounded_header(data, MAX_PIXELS), OPTIONS),
        "full": medians(full),
        "served": medians(served),
        "ratio": round(statistics.median(ratios), 3),
        **agreement(full[0], served[0]),
    }


def medians(runs: Sequence[Reading]) -> dict[str, float]:
    """The median of each time, and the count of faces."""
    names = ("decode_ms", "search_and_crop_ms", "total_ms")
    times = {name: round(statistics.median(getattr(run, name) for run in runs), 3) for name in names}
    return {**times, "face_count": len(runs[0].boxes)}


def agreement(full: Reading, served: Reading) -> dict[str, float | None]:
    """How the largest face is placed and cut both ways: overlap of the boxes, grey levels between the crops."""
    if not (full.boxes and served.boxes):
        return {"box_overlap": None, "crop_difference_levels": None}
    overlaps = [overlap(full.boxes[0], box) for box in served.boxes]
    nearest = int(np.argmax(overlaps))
    difference = np.abs(full.crops[0].astype(int) - served.crops[nearest]).mean()
    return {
        "box_overlap": round(overlaps[nearest], 3),
        "crop_difference_levels": round(float(difference), 2),
    }


def overlap(one: BoundingBox, other: BoundingBox) -> float:
    """Intersection over union, 0 to 1."""
    across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    both = max(across, 0) * max(down, 0)
    return both / (one.area + other.area - both)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each way")
    options = parser.parse_args()
    detector = HaarDetector()
    sizes = {}
    with OtherWork() as others:
        for name, (width, height) in SIZES.items():
            sizes[name] = found = compare(detector, photograph(width, height), options.rounds)
            print(
                f"{name:20} {found['file_bytes'] / 1e6:5.2f} MB  1/{found['reduction']}  "
                f"full {found['full']['total_ms']:7.1f} ms  as served {found['served']['total_ms']:7.1f} ms  "
                f"ratio {found['ratio']:.3f}  "
                f"faces {found['full']['face_count']}, {found['served']['face_count']}  "
                f"overlap {found['box_overlap']}  crops differ by {found['crop_difference_levels']}",
                flush=True,
            )
        share = others.share()
    document = {
        **machine_facts(),
        "other_work_share": round(share, 3),
        "rounds": options.rounds,
        "sizes": sizes,
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
