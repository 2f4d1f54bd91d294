"""Defines outputs of `watch`, and keeps a broken one from harming the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_client.watch.frames import SourceReport, WatchedFrame


class Output(Protocol):
    """Takes every frame of every source, those of one source in order. Used on one thread."""

    name: str
    """Name of the output in messages, such as its file."""

    def show(self, watched: WatchedFrame) -> None:
        """Take one frame.

        Raises:
            OSError: It cannot be written.
        """

    def end_source(self, report: SourceReport) -> None:
        """Take the end of one source. No frame of it follows.

        Raises:
            OSError: It cannot be written.
        """

    def close(self) -> None:
        """Complete the output. Called once, whatever ends the watching.

        Raises:
            OSError: It cannot be written.
        """


class OutputSet:
    """Hands frames to outputs. One that fails is named once and left out; the others go on.

    Args:
        complain: Takes a sentence about an output that failed.
    """

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._outputs: list[Output] = []
        self._complain = complain
        self.all_whole = True
        """Whether no output has failed."""

    def open(self, name: str, make: Callable[[], Output]) -> None:
        """Open an output, which this set closes. One that cannot be written is named and left out.

        Args:
            name: Name of the output in messages.
            make: Opens it.

        Raises:
            MissingExtraError: A library that it needs is not installed.
        """
        try:
            self._outputs.append(make())
        except OSError as error:
            self._reject(name, error)

    def show(self, watched: WatchedFrame) -> None:
        """Hand a frame to every output that works."""
        self._each(lambda output: output.show(watched))

    def end_source(self, report: SourceReport) -> None:
        """Hand the end of a source to every output that works."""
        self._each(lambda output: output.end_source(report))

    def close(self) -> None:
        """Complete every output that works. A second time does nothing."""
        self._each(lambda output: output.close())
        self._outputs.clear()

    def _each(self, act: Callable[[Output], None]) -> None:
        for output in list(self._outputs):
            try:
                act(output)
            except BrokenPipeError:
                raise  # the reader of stdout has left, which ends the command silently
            except (OSError, ValueError) as error:
                self._outputs.remove(output)
                self._reject(output.name, error)

    def _reject(self, name: str, error: Exception) -> None:
        self.all_whole = False
        reason = getattr(error, "strerror", None) or str(error)
        self._complain(f"{name}: cannot be written: {reason}")
