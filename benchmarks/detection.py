"""Measures face detectors: recall and false boxes on labelled pictures and on clips, and processor time.

Labelled pictures are a folder with `boxes.json`: `{"picture.jpg": [[left, top, width, height], ...]}`. Clips have
no labels, so their reference is YuNet at 960 pixels: a box that overlaps no reference box from score 0.3 on counts
as false, and a reference box from score 0.9 on that no box overlaps as missed. Look at the clip as well.

One thread, the detectors alternately on each picture. Prints tables and writes benchmarks/results/detection.json:
    python benchmarks/detection.py --faces FOLDER --clip CLIP.mp4
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
from machine import OtherWork, machine_facts

from ferserve_vision.decode import decode_grey
from ferserve_vision.detectors.haar import FRONTAL_FACE_CASCADE, HaarDetector
from ferserve_vision.detectors.yunet import YunetDetector
from ferserve_vision.geometry import Box, Detection
from ferserve_vision.options import DetectionOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ferserve_vision.opencv import GreyImage

RESULTS: Final = Path(__file__).resolve().parent / "results" / "detection.json"
SAME_FACE: Final = 0.35
"""Least intersection over union of a box and the face that it is taken for."""

SAME_FACE_ON_CLIPS: Final = 0.2
"""Likewise on clips, whose Haar boxes are compared with the taller ones of YuNet."""

REFERENCE_SIDE_PIXELS: Final = 960
MAX_PIXELS: Final = 50_000_000


class PlainCascade:
    """Runs OpenCV's plain Haar cascade: boxes inside others are kept. One thread at a time."""

    def __init__(self) -> None:
        self._classifier = cv2.CascadeClassifier(str(FRONTAL_FACE_CASCADE))

    def detect(self, image: GreyImage, _: DetectionOptions) -> list[Detection]:
        """Finds faces on a copy with at most 640 pixels a side, as the server's first version did."""
        height, width = image.shape
        share = min(1.0, 640 / max(height, width))
        copy = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA) if share < 1 else image
        hits = self._classifier.detectMultiScale(copy, scaleFactor=1.1, minNeighbors=5, minSize=(40, 40))
        return [Detection(Box(*map(float, hit))).mapped(1 / share, 1 / share) for hit in hits]


@dataclass
class Tally:
    """Counts the results of one detector."""

    expected: int = 0
    found: int = 0
    false: int = 0
    missed_certain: int = 0
    certain: int = 0
    pictures: int = 0
    spent_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Returns the counts as JSON."""
        counts = {name: value for name, value in vars(self).items() if name != "spent_ms"}
        return counts | {"ms": round(statistics.median(self.spent_ms), 2)}


def variants() -> dict[str, tuple[Any, DetectionOptions]]:
    """Makes the detectors that are compared, by name."""
    yunet, haar = YunetDetector(), HaarDetector()
    alt2 = HaarDetector(FRONTAL_FACE_CASCADE.with_name("haarcascade_frontalface_alt2.xml"))
    made: dict[str, tuple[Any, DetectionOptions]] = {
        "haar, plain": (PlainCascade(), DetectionOptions()),
        "haar, default": (haar, DetectionOptions()),
        "haar, alt2": (alt2, DetectionOptions()),
        "yunet, default (480, 0.8)": (yunet, DetectionOptions()),
        "yunet, tiles": (YunetDetector(), DetectionOptions(tiles=True)),
    }
    for side in (320, 480, 640):
        one = YunetDetector()  # each has buffers of its own size
        for threshold in (0.6, 0.7, 0.8):
            options = DetectionOptions(detection_side_pixels=side, score_threshold=threshold)
            made[f"yunet, {side}, {threshold}"] = (one, options)
    return made


def timed(detector: Any, grey: GreyImage, options: DetectionOptions) -> tuple[list[Detection], float]:  # noqa: ANN401 - port or cascade
    """Detects, and measures the processor time of this thread in milliseconds."""
    started = time.thread_time()
    found = detector.detect(grey, options)
    return found, (time.thread_time() - started) * 1e3


def iou(one: Box, other: Box) -> float:
    """Returns intersection over union, 0 to 1."""
    both = one.overlap(other)
    return both / (one.area + other.area - both)


def matched(expected: list[Box], found: list[Box], least: float) -> int:
    """Counts expected boxes that have a box of their own, the best pairs first."""
    pairs = sorted(((iou(a, b), i, j) for i, a in enumerate(expected) for j, b in enumerate(found)), reverse=True)
    rows: set[int] = set()
    columns: set[int] = set()
    for share, row, column in pairs:
        if share >= least and row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
    return len(rows)


def on_pictures(folder: Path) -> dict[str, Any]:
    """Measures recall and false boxes on labelled pictures."""
    labels = json.loads((folder / "boxes.json").read_text())
    made = variants()
    tallies = {name: Tally() for name in made}
    for name, boxes in labels.items():
        grey = decode_grey((folder / name).read_bytes(), MAX_PIXELS)
        expected = [Box(*box) for box in boxes]
        for variant, (detector, options) in made.items():
            timed(detector, grey, options)  # buffers of this size
            found, spent_ms = timed(detector, grey, options)
            tally, hits = tallies[variant], matched(expected, [each.box for each in found], SAME_FACE)
            tally.pictures += 1
            tally.expected += len(expected)
            tally.found += hits
            tally.false += len(found) - hits
            tally.spent_ms.append(spent_ms)
    return {name: tally.figures() for name, tally in tallies.items()}


def frames_of(clip: Path) -> Iterator[GreyImage]:
    """Yields the frames of a clip in grey levels."""
    capture = cv2.VideoCapture(str(clip))
    try:
        while True:
            there, frame = capture.read()
            if not there:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    finally:
        capture.release()


def on_clip(clip: Path, every: int) -> dict[str, Any]:
    """Measures false and missed boxes on a clip against YuNet at a large side."""
    kept = ("haar, plain", "haar, default", "yunet, default (480, 0.8)", "yunet, 320, 0.8", "yunet, 480, 0.8")
    made = {name: each for name, each in variants().items() if name in kept}
    tallies = {name: Tally() for name in made}
    reference = YunetDetector()
    wide = DetectionOptions(detection_side_pixels=REFERENCE_SIDE_PIXELS, score_threshold=0.3)
    for number, grey in enumerate(frames_of(clip)):
        if number % every:
            continue
        truth = reference.detect(grey, wide)
        certain = [each.box for each in truth if each.score >= 0.9]
        for variant, (detector, options) in made.items():
            found, spent_ms = timed(detector, grey, options)
            boxes, tally = [each.box for each in found], tallies[variant]
            tally.pictures += 1
            tally.false += len(boxes) - matched([each.box for each in truth], boxes, SAME_FACE_ON_CLIPS)
            tally.certain += len(certain)
            tally.missed_certain += len(certain) - matched(certain, boxes, SAME_FACE_ON_CLIPS)
            tally.spent_ms.append(spent_ms)
    return {name: tally.figures() for name, tally in tallies.items()}


def show(title: str, figures: dict[str, Any], line: Callable[[dict[str, Any]], str]) -> None:
    """Prints one table."""
    print(f"\n{title}")
    for name, each in figures.items():
        print(f"  {name:28} {line(each)}  {each['ms']:6.1f} ms", flush=True)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, help="folder of labelled pictures")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a video; may be repeated")
    parser.add_argument("--every", type=int, default=3, help="take every n-th frame of a clip")
    options = parser.parse_args()
    if options.faces is None and not options.clip:
        parser.error("give --faces, or --clip, or both")
    document: dict[str, Any] = {**machine_facts(), "clips": {}}
    with OtherWork() as others:
        if options.faces is not None:
            document["pictures"] = on_pictures(options.faces)
            show(
                "labelled pictures",
                document["pictures"],
                lambda each: f"{each['found']:3} of {each['expected']} found, {each['false']:3} false",
            )
        for clip in options.clip:
            document["clips"][clip.stem] = figures = on_clip(clip, options.every)
            show(
                clip.name,
                figures,
                lambda each: (
                    f"{each['false'] * 100 / each['pictures']:5.1f} false per 100 frames, "
                    f"{each['missed_certain']:3} of {each['certain']} certain faces missed"
                ),
            )
        document["other_work_share"] = round(others.share(), 3)
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
