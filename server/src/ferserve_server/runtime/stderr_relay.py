"""Reads the stderr of this process and its children, and turns it into log records."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from ferserve_server.runtime.log_writer import DROPPED_MARK, LINE_BREAK, RECORD_MARK

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.runtime.log_writer import LogWriter

_PIPE_BYTES: Final = 1024 * 1024
"""Requested capacity of a pipe, in bytes: the largest that Linux allows without a privilege."""

_READ_BYTES: Final = 64 * 1024
_MAX_LINE_BYTES: Final = 256 * 1024
"""Maximum length of a framed record in bytes: 32 Ki characters of 4 bytes, escapes included."""

_MAX_NATIVE_CHARACTERS: Final = 2000
"""Maximum length of a line of a native library in its log record; the rest says little."""

_BURST_LINES: Final = 50
_LINES_PER_S: Final = 5.0
"""Maximum rate of native lines for each process, per second, because libjpeg writes one for every damaged picture,
up to thousands a second."""


class RateLimit:
    """Limits events with a token bucket: `burst` at once, and `per_s` a second after that. One thread."""

    def __init__(self, burst: int, per_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._per_s = per_s
        self._now = now
        self._tokens = float(burst)
        self._at = now()

    def allow(self) -> bool:
        """Takes a token; returns False if there is none."""
        now = self._now()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class LogNativeLine(Protocol):
    """Logs a line that something other than the logger wrote."""

    def __call__(self, line: str, source: dict[str, object]) -> None:
        """Logs it, with the facts of the process that wrote it."""


class _Source:
    """Represents one pipe: its process, its incomplete line, and its rate limit."""

    def __init__(self, facts: dict[str, object], rate_limit: RateLimit) -> None:
        self.facts = facts
        self.rate_limit = rate_limit
        self.partial = b""


class StderrRelay:
    """Reads pipes that replace stderr, on one daemon thread.

    Framed records of child processes are passed on as they are. Other lines come from native libraries (libjpeg,
    TensorFlow, glibc); they are logged within a rate limit, and counted as dropped beyond it. The pipes do not
    block their writers, so a flood costs lines and no time.

    Thread-safety: `open` from any thread.
    """

    def __init__(self, writer: LogWriter, log_line: LogNativeLine) -> None:
        """Starts the thread.

        Args:
            writer: Takes framed records, and counts lines beyond the rate limit.
            log_line: Logs a line that is no framed record.
        """
        self._writer = writer
        self._log_line = log_line
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        self._added: list[tuple[int, _Source]] = []
        threading.Thread(target=self._run, name="stderr-relay", daemon=True).start()

    def open(self, facts: dict[str, object]) -> int:
        """Opens a pipe and returns its write end, which is the caller's to close; its end is that of all copies.

        Args:
            facts: Fields for the records of its native lines; may be added to later, such as a process id.

        Raises:
            OSError: No descriptor is left.
        """
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # over the soft limit for a user's pipes the usual 64 KiB do too
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._added.append((reader, _Source(facts, RateLimit(_BURST_LINES, _LINES_PER_S))))
        os.write(self._wake_writer, b"+")
        return writer

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.read(key.fd, 4096)
                    while self._added:
                        reader, source = self._added.pop(0)
                        self._selector.register(reader, selectors.EVENT_READ, source)
                else:
                    self._read(key.fd, key.data)

    def _read(self, fd: int, source: _Source) -> None:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        lines = (source.partial + data).split(b"\n")
        source.partial = lines.pop()
        if not data or len(source.partial) > _MAX_LINE_BYTES:
            lines.append(source.partial)
            source.partial = b""
        for line in lines:
            self._take(line.decode("utf-8", "replace").rstrip("\r"), source)
        if not data:
            self._selector.unregister(fd)
            os.close(fd)

    def _take(self, line: str, source: _Source) -> None:
        if not line.strip():
            return
        if line.startswith(RECORD_MARK):
            self._writer.write(line[len(RECORD_MARK) :].replace(LINE_BREAK, "\n"))
        elif line.startswith(DROPPED_MARK) and line[1:].isdecimal():
            self._writer.count_dropped(int(line[1:]))
        elif source.rate_limit.allow():
            self._log(line, source)
        else:
            self._writer.count_dropped(1)

    def _log(self, line: str, source: _Source) -> None:
        try:
            self._log_line(line[:_MAX_NATIVE_CHARACTERS], dict(source.facts))
        except Exception:  # noqa: BLE001 - the thread must go on
            self._writer.count_dropped(1)


class LineStream:
    """Replaces `sys.stderr`: passes complete lines to a callable, and never raises.

    Thread-safety: any thread; lines that two threads write at once may mix.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, take_line: Callable[[str], None], fd: int) -> None:
        """Makes a stream.

        Args:
            take_line: Takes each line, without its end.
            fd: Returned by `fileno`: faulthandler and subprocesses ask for it.
        """
        self._take_line = take_line
        self._fd = fd
        self._partial = ""

    def write(self, text: str) -> int:
        """Writes text; passes on the lines that it completes."""
        *lines, partial = (self._partial + text).split("\n")
        self._partial = partial[-_MAX_NATIVE_CHARACTERS:]
        for line in lines:
            if line.strip():
                self._take_line(line[:_MAX_NATIVE_CHARACTERS])
        return len(text)

    def writelines(self, lines: Any) -> None:  # noqa: ANN401 - as TextIO has it
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Does nothing: lines are passed on at once."""

    def isatty(self) -> bool:
        """Returns False: colours are of no use in a record."""
        return False

    def fileno(self) -> int:
        """Returns the descriptor."""
        return self._fd

    def writable(self) -> bool:
        """Returns True."""
        return True

    @property
    def closed(self) -> bool:
        """Returns False: it cannot be closed."""
        return False
