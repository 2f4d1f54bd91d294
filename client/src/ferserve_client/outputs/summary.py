"""Counts the frames, faces and emotions of every source."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferserve_client.watch.frames import SourceReport, WatchedFrame


@dataclass(slots=True)
class SourceCounts:
    """Counts one source."""

    source: str
    frames: Counter[str] = field(default_factory=Counter)
    """Frames by `analyzed`, `dropped` and `failed`. A frame of which a face failed has failed."""
    emotions: Counter[str] = field(default_factory=Counter)
    """Faces by emotion."""
    lags_s: list[float] = field(default_factory=list)
    """Lags of the latest analysed frames, in seconds."""
    problems: tuple[str, ...] = ()
    reconnects: int = 0


class Summary:
    """Counts what the frames of every source show. An output like the others."""

    name = "summary"

    def __init__(self) -> None:
        self.sources: dict[int, SourceCounts] = {}

    def show(self, watched: WatchedFrame) -> None:
        """Count the frame."""
        counts = self._of(watched.source_index, watched.source)
        failed = watched.answer.error is not None or any(face.error is not None for face in watched.faces)
        dropped = watched.answer.dropped
        counts.frames["failed" if failed else "dropped" if dropped else "analyzed"] += 1
        predictions = [face.prediction for face in watched.faces if face.prediction is not None]
        counts.emotions.update(prediction.emotion for prediction in predictions)
        if not dropped:
            counts.lags_s.append(watched.lag_s)
            del counts.lags_s[:-100]

    def end_source(self, report: SourceReport) -> None:
        """Note how the source ended."""
        counts = self._of(report.source_index, report.source)
        counts.problems, counts.reconnects = report.problems, report.reconnects

    def close(self) -> None:
        """Do nothing: the counts stay."""

    @property
    def all_answered(self) -> bool:
        """Tell whether every source was read and answered whole. A dropped frame is what the policy asks for."""
        each = self.sources.values()
        return all(not counts.frames["failed"] and not counts.problems for counts in each)

    def problems(self) -> list[str]:
        """Return everything that went wrong, one sentence each, with the name of its source."""
        return [
            problem if problem.startswith(counts.source) else f"{counts.source}: {problem}"
            for counts in self.sources.values()
            for problem in counts.problems
        ]

    def rows(self) -> list[list[str]]:
        """Return a row of text per source: frames, analyzed, dropped, failed, faces and emotions."""
        rows = []
        for index in sorted(self.sources):
            counts = self.sources[index]
            emotions = ", ".join(f"{emotion} {count}" for emotion, count in counts.emotions.most_common())
            by_outcome = [str(counts.frames[outcome]) for outcome in ("analyzed", "dropped", "failed")]
            rows.append(
                [counts.source, str(counts.frames.total()), *by_outcome, str(counts.emotions.total()), emotions]
            )
        return rows

    def _of(self, index: int, source: str) -> SourceCounts:
        return self.sources.setdefault(index, SourceCounts(source))


SUMMARY_COLUMNS = ("source", "frames", "analyzed", "dropped", "failed", "faces", "emotions")
"""Headings of `Summary.rows`."""
