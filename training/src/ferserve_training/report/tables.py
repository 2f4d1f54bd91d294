"""Lays out the tables of a report, once for HTML and for Markdown."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """Holds a heading, the columns' names and the cells.

    Attributes:
        title: Heading.
        head: Names of the columns.
        rows: Cells as text.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Write it in Markdown."""
        lines = [f"## {self.title}", "", f"| {' | '.join(self.head)} |", f"|{' --- |' * len(self.head)}"]
        return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in self.rows), ""])


def tables_of(summary: dict[str, Any]) -> tuple[Table, ...]:
    """Put the numbers of `ReportData.summary` into tables."""
    return (_figures(summary), _classes(summary), _robustness(summary), _coverage(summary))


def _figures(summary: dict[str, Any]) -> Table:
    figures = summary["figures"]
    fitted = "fitted on these faces" if summary["temperature_is_fitted_on_these_faces"] else "of the version"
    rows = [
        ("Faces", f"{summary['face_count']:,} of {summary['split']}"),
        ("Accuracy", _interval(figures["accuracy"], figures["accuracy_low_95"], figures["accuracy_high_95"])),
        (f"Accuracy, {summary['twin_free_count']:,} twin-free faces", f"{figures['twin_free_accuracy']:.2%}"),
        ("Macro-F1", f"{figures['macro_f1']:.4f}"),
        ("Expected calibration error, 15 bins", f"{figures['ece']:.4f}"),
        ("the same before temperature", f"{figures['ece_uncalibrated']:.4f}"),
        (f"Temperature, {fitted}", f"{summary['temperature']:.4f}"),
        ("Uncertain below a top probability of", f"{summary['decisions']['uncertain_threshold']:.2f}"),
        ("Not a face above", f"{summary['decisions']['not_a_face_threshold']:.2f}"),
        ("Multiply-accumulates a face", f"{summary['mac_count']:,}"),
        ("Parameters", f"{summary['parameter_count']:,}"),
        ("Milliseconds a face in a batch, this machine", f"{summary['milliseconds_a_face']:.3f}"),
    ]
    votes = summary["ferplus_majority"]
    if votes is not None:
        name = f"Accuracy against FER+'s majority, {votes['face_count']:,.0f} faces"
        rows.insert(3, (name, _interval(votes["accuracy"], votes["low_95"], votes["high_95"])))
    return Table("Figures", ("figure", "value"), tuple(rows))


def _classes(summary: dict[str, Any]) -> Table:
    rows = tuple(
        (
            each["label"],
            f"{each['precision']:.4f}",
            f"{each['recall']:.4f}",
            f"{each['f1']:.4f}",
            f"{each['support']:,}",
            "" if each["auc"] is None else f"{each['auc']:.4f}",
        )
        for each in summary["classes"]
    )
    return Table("Classes", ("class", "precision", "recall", "F1", "faces", "area under ROC"), rows)


def _robustness(summary: dict[str, Any]) -> Table:
    parent = summary["parent"]
    rows = tuple(
        (
            name,
            f"{each['face_count']:,}",
            _interval(each["accuracy"], each["low_95"], each["high_95"]),
            f"{each['accuracy'] - each['accuracy_unchanged']:+.2%}",
            f"{each['ece']:.4f}",
            *([] if parent is None else [f"{parent['degraded'][name]:.2%}" if name in parent["degraded"] else ""]),
        )
        for name, each in summary["robustness"].items()
    )
    head = ("change", "faces", "accuracy", "against the same unchanged", "calibration error")
    return Table("Robustness", (*head, *([] if parent is None else [f"accuracy of {parent['name']}"])), rows)


def _coverage(summary: dict[str, Any]) -> Table:
    rows = tuple((f"{coverage:.0%}", f"{accuracy:.2%}") for coverage, accuracy in summary["risk_coverage"])
    return Table("Surest faces only", ("faces answered", "accuracy among them"), rows)


def _interval(share: float, low: float, high: float) -> str:
    return f"{share:.2%} ({low:.2%} to {high:.2%})"
