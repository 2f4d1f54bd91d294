"""Where the answers of `ferserve watch` go. Each output is told of every frame, in order."""

import csv
from collections import Counter
from collections.abc import Iterator
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ferserve_client.answers import FrameAnswer
from ferserve_client.cli.console import print_json, print_table
from ferserve_client.cli.records import frame_record
from ferserve_client.cli.shots import Shot
from ferserve_client.faces import Emotion
from ferserve_client.video.drawing import annotate
from ferserve_client.video.sink import VideoFile, Window

CSV_COLUMNS = (
    "sequence_id",
    "time_s",
    "outcome",
    "face",
    "left",
    "top",
    "width",
    "height",
    "emotion",
    "confidence",
    *(f"score_{emotion}" for emotion in Emotion),
    "model",
    "version",
)


class Output(Protocol):
    """Something that is told of every frame."""

    def show(self, shot: Shot, answer: FrameAnswer) -> bool:
        """Take one answer. False if the user wants no more."""


class JsonOutput:
    """One JSON object a line on stdout."""

    def __init__(self, source: str) -> None:
        self._source = source

    def show(self, shot: Shot, answer: FrameAnswer) -> bool:
        """Print the frame."""
        print_json(frame_record(self._source, shot.time_s, answer))
        return True


class CsvOutput:
    """A line per face, and one line for a frame that shows none.

    Args:
        file: An open text file, which the caller closes.
    """

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.DictWriter(file, CSV_COLUMNS)
        self._writer.writeheader()

    def show(self, shot: Shot, answer: FrameAnswer) -> bool:
        """Write the frame's lines."""
        self._writer.writerows(csv_rows(shot.time_s, answer))
        return True


def csv_rows(time_s: float, answer: FrameAnswer) -> Iterator[dict[str, object]]:
    """The lines of one frame. Labels outside `Emotion` have no score column."""
    outcome = "dropped" if answer.dropped else "analyzed" if answer.error is None else answer.error.reason
    row: dict[str, object] = {"sequence_id": answer.sequence_id, "time_s": f"{time_s:.3f}", "outcome": outcome}
    if answer.servable is not None:
        row |= {"model": answer.servable.name, "version": answer.servable.version}
    faces = () if answer.analysis is None else answer.analysis.faces
    if not faces:
        yield row
    for number, face in enumerate(faces, start=1):
        box = {"left": face.box.left, "top": face.box.top, "width": face.box.width, "height": face.box.height}
        line = {**row, "face": number, **box}
        if face.prediction is not None:
            scores = {
                f"score_{emotion}": f"{face.prediction.scores[emotion]:.6f}"
                for emotion in Emotion
                if emotion in face.prediction.scores
            }
            line |= {"emotion": face.prediction.emotion, "confidence": f"{face.prediction.confidence:.6f}"}
            line |= scores
        yield line


class DrawingOutput:
    """Annotated frames into a video file, a window, or both. Frames without an analysis stay bare."""

    def __init__(self, file: VideoFile | None, window: Window | None) -> None:
        self._file = file
        self._window = window

    def show(self, shot: Shot, answer: FrameAnswer) -> bool:
        """Draw the frame."""
        if shot.pixels is None:
            return True
        pixels = shot.pixels if answer.analysis is None else annotate(shot.pixels, answer.analysis)
        if self._file is not None:
            self._file.write(pixels)
        return self._window is None or self._window.show(pixels)


def progress_bar() -> Progress:
    """A bar on stderr, which shows only where that is a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    text = TextColumn("{task.description}")
    return Progress(*columns, text, console=console, transient=True, disable=not console.is_terminal)


class ProgressOutput:
    """Moves a progress bar.

    Args:
        progress: The bar, which the caller starts and ends.
        frame_count: Frames to come. None: nobody knows.
    """

    def __init__(self, progress: Progress, frame_count: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=frame_count)

    def show(self, _shot: Shot, answer: FrameAnswer) -> bool:
        """Move the bar on."""
        faces = () if answer.analysis is None else answer.analysis.faces
        seen = ", ".join(face.prediction.emotion for face in faces if face.prediction is not None)
        self._progress.update(self._task, advance=1, description=seen)
        return True


class Summary:
    """Counts what was seen."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.emotions: Counter[str] = Counter()

    def show(self, _shot: Shot, answer: FrameAnswer) -> bool:
        """Count the frame."""
        faces = () if answer.analysis is None else answer.analysis.faces
        failed = answer.error is not None or any(face.error is not None for face in faces)
        self.outcomes["failed" if failed else "dropped" if answer.dropped else "analyzed"] += 1
        self.emotions.update(face.prediction.emotion for face in faces if face.prediction is not None)
        return True

    @property
    def all_answered(self) -> bool:
        """Whether no frame failed. A dropped frame is answered: the policy asks for it."""
        return not self.outcomes["failed"]

    def print(self) -> None:
        """Print the counts to stdout."""
        table = Table("frames", "analyzed", "dropped", "failed", "faces", "expressions")
        counts = [str(self.outcomes[outcome]) for outcome in ("analyzed", "dropped", "failed")]
        shares = ", ".join(f"{emotion} {count}" for emotion, count in self.emotions.most_common())
        table.add_row(str(self.outcomes.total()), *counts, str(self.emotions.total()), shares)
        print_table(table)
