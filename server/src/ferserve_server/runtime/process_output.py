"""Redirects the stderr of a process, so that no writer to it can block or fail."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from ferserve_server.runtime.log_writer import LogWriter
from ferserve_server.runtime.stderr_relay import LineStream, RateLimit, StderrRelay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

_STDERR: Final = 2
_BURST_LINES: Final = 50
_LINES_PER_S: Final = 5.0
"""Maximum rate of lines that Python code prints to `sys.stderr`, per second, as for native lines."""


@dataclass(frozen=True, slots=True)
class ProcessOutput:
    """Represents the log output of this process.

    Attributes:
        writer: Takes rendered records.
        on_terminal: True if it ends on a terminal.
        relay: Reads the stderr of children; None in a child, whose parent does that for all.
    """

    writer: LogWriter
    on_terminal: bool
    relay: StderrRelay | None = None


_output: ProcessOutput | None = None


def current_output() -> ProcessOutput | None:
    """Returns the output that `open_output` or `open_child_output` made, or None before that."""
    return _output


def open_output() -> ProcessOutput:
    """Redirects the stderr of a process that is started by a user. Once, before other threads run.

    Descriptor 2 becomes a pipe that a thread of this process reads; records go to the descriptor that was there.
    One that was closed is replaced by /dev/null: the next file or socket would get its number otherwise, and
    native libraries would write their warnings into it.
    """
    global _output  # noqa: PLW0603 - a process has one stderr
    if sys.stderr is None:  # Python found descriptor 2 closed
        target, on_terminal = os.open(os.devnull, os.O_WRONLY), False
    else:
        on_terminal = os.isatty(_STDERR)
        target = os.dup(_STDERR)
    # A native crash of the process leaves no time to its threads.
    faulthandler.enable(target)
    writer = LogWriter(target, report_dropped=_report_dropped)
    relay = StderrRelay(writer, _log_native_line)
    pipe = relay.open({})
    os.dup2(pipe, _STDERR, inheritable=True)
    os.close(pipe)
    _output = ProcessOutput(writer, on_terminal, relay)
    _redirect_python()
    return _output


def open_child_output() -> ProcessOutput:
    """Redirects the stderr of a child process whose parent has a relay at the other end. Once, at its start."""
    global _output  # noqa: PLW0603 - as above
    faulthandler.enable(_STDERR)
    _output = ProcessOutput(LogWriter(_STDERR, framed=True), on_terminal=False)
    _redirect_python()
    return _output


@contextlib.contextmanager
def child_stderr(facts: dict[str, object]) -> Iterator[int | None]:
    """Opens the stderr of a child that is about to be started, and closes this process's copy on exit.

    Args:
        facts: Fields for the records of its native lines; may be added to later.

    Yields:
        A file descriptor, or None for this process's own stderr, if nothing was redirected.
    """
    relay = _output.relay if _output is not None else None
    if relay is None:
        yield None
        return
    fd = relay.open(facts)
    try:
        yield fd
    finally:
        os.close(fd)


def dropped_line_count() -> int:
    """Returns the number of log lines that this process dropped, or counted as dropped by its children."""
    return _output.writer.dropped_count if _output is not None else 0


def flush_output(timeout_s: float) -> None:
    """Waits until all records so far are written, for `timeout_s` seconds at most. Never raises."""
    if _output is not None:
        _output.writer.flush(timeout_s)


def write_plain(text: str) -> None:
    """Writes text to stderr unchanged, for users of a command. Never raises."""
    if _output is not None:
        _output.writer.write(text)
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, gone or full; None if it was closed
        sys.stderr.write(text + "\n")


def _redirect_python() -> None:
    sys.stderr = cast("TextIO", LineStream(_PrintedLines(RateLimit(_BURST_LINES, _LINES_PER_S)).log, _STDERR))
    threading.excepthook = _log_thread_exception
    sys.unraisablehook = _log_unraisable
    logging.raiseExceptions = False
    logging.basicConfig(handlers=[_LibraryHandler()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


class _PrintedLines:
    """Logs lines that Python code prints to `sys.stderr`, within a rate limit."""

    def __init__(self, rate_limit: RateLimit) -> None:
        self._rate_limit = rate_limit

    def log(self, line: str) -> None:
        """Logs a line."""
        if self._rate_limit.allow():
            _log_native_line(line, {})
        elif _output is not None:
            _output.writer.count_dropped(1)


class _LibraryHandler(logging.Handler):
    """Forwards the records of libraries, such as those of asyncio, to the structured log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Logs a record."""
        with contextlib.suppress(Exception):
            error = record.exc_info if record.exc_info and record.exc_info[0] else None
            structlog.get_logger(record.name).log(
                record.levelno, "library message", library=record.name, text=record.getMessage(), exc_info=error
            )


def _log_native_line(line: str, source: dict[str, object]) -> None:
    structlog.get_logger(__name__).warning("line on stderr", line=line, **source)


def _report_dropped(count: int) -> None:
    structlog.get_logger(__name__).warning("log lines dropped", lines=count)


def _log_thread_exception(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
        name = arguments.thread.name if arguments.thread else ""
        structlog.get_logger(__name__).error(
            "thread ended by an exception", thread=name, exc_info=arguments.exc_value
        )


def _log_unraisable(arguments: Any) -> None:  # noqa: ANN401 - sys.UnraisableHookArgs is for type checkers only
    with contextlib.suppress(Exception):
        structlog.get_logger(__name__).error(
            "exception ignored", at=repr(arguments.object)[:200], exc_info=arguments.exc_value
        )
