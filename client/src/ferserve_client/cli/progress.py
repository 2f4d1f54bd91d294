"""Shows progress on a terminal: frame rate, lag, emotions and time left of every source."""

import time
from collections import deque

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from ferserve_client.video.drawing import caption
from ferserve_client.watch.frames import SourceReport, WatchedFrame
from ferserve_client.watch.session import Session

RATE_WINDOW_S = 3.0
"""Seconds over which the frame rate is counted."""


class WatchProgress:
    """Shows a line per source on stderr, only where that is a terminal. An output like the others.

    Args:
        sessions: The sources.
    """

    name = "progress"

    def __init__(self, sessions: list[Session]) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(max_width=18, no_wrap=True), markup=False),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[rate]}/s"),
            TextColumn("lag {task.fields[lag]}"),
            TextColumn("{task.fields[seen]}", table_column=Column(no_wrap=True, ratio=1), markup=False),
            _TimeLeft(compact=True),
            console=console,
            expand=True,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks = {
            each.index: self._progress.add_task(each.name, total=each.duration_s, rate="-", lag="-", seen="")
            for each in sessions
        }
        self._times: dict[int, deque[float]] = {each.index: deque() for each in sessions}
        self._progress.start()

    def show(self, watched: WatchedFrame) -> None:
        """Move the line of the source on."""
        now_s, times = time.monotonic(), self._times[watched.source_index]
        times.append(now_s)
        while now_s - times[0] > RATE_WINDOW_S:
            times.popleft()
        rate = len(times) / max(0.1, now_s - times[0]) if len(times) > 1 else 0.0
        fields: dict[str, str] = {"rate": f"{rate:.1f}", "lag": duration(watched.lag_s)}
        if watched.answer.analysis is not None:
            fields["seen"] = ", ".join(caption(face) for face in watched.faces) or "no face"
        self._progress.update(self._tasks[watched.source_index], completed=watched.answer.time_s, **fields)  # type: ignore[arg-type]  # fields

    def end_source(self, report: SourceReport) -> None:
        """Stop the line of the source."""
        self._progress.stop_task(self._tasks[report.source_index])

    def close(self) -> None:
        """Remove the lines."""
        self._progress.stop()


class _TimeLeft(TimeRemainingColumn):
    """Shows the time left, and nothing for sources without an end."""

    def render(self, task: Task) -> Text:
        """Return the text of one source."""
        return Text("") if task.total is None else super().render(task)


def pictures_progress(total: int | None) -> Progress:
    """Return a bar of pictures on stderr with rate and time left, which shows only where that is a terminal."""
    console = Console(stderr=True)
    columns: tuple[ProgressColumn, ...] = (
        BarColumn(bar_width=20),
        TextColumn(
            "{task.completed:.0f} of {task.total:.0f} pictures" if total else "{task.completed:.0f} pictures"
        ),
        _PictureRate(),
        TimeRemainingColumn(compact=True),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class _PictureRate(ProgressColumn):
    """Shows pictures a second."""

    def render(self, task: Task) -> Text:
        """Return the text."""
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


def duration(seconds: float) -> str:
    """Return a short text of a time: `85 ms`, `2.3 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1.0 else f"{seconds:.1f} s"
