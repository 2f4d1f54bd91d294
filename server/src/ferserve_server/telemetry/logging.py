"""Configures structured logs: one JSON object per line, or coloured lines on a terminal."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from ferserve_server.domain.trace import sampled_spans
from ferserve_server.runtime.process_output import current_output, write_plain

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence


def set_up_logging(level: str, log_format: str) -> None:
    """Configures the process's logging. Call once, at start, after `runtime.process_output.open_output` if used.

    Log calls never raise, and never block where the output was redirected.

    Args:
        level: Least severity: debug, info, warning or error.
        log_format: json, console, or auto; see `chosen_format`.
    """
    structlog.configure(
        processors=[_Guarded(record_processors(chosen_format(log_format)))],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=_OutputLogger,
        cache_logger_on_first_use=True,
    )


def record_processors(log_format: str) -> list[structlog.typing.Processor]:
    """Returns the processors of a record, json or console; the last one renders it."""
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "console":
        processors.append(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))
    else:
        # The library's ready-made renderer adds every local variable, and with it the callers' pixels.
        traces = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        processors += [traces, structlog.processors.JSONRenderer()]
    return processors


def chosen_format(log_format: str) -> str:
    """Returns json or console; for auto, console if the log ends on a terminal."""
    if log_format != "auto":
        return log_format
    output = current_output()
    if output is not None:
        return "console" if output.on_terminal else "json"
    return "console" if sys.stderr is not None and sys.stderr.isatty() else "json"


def _add_trace(
    logger: Any,  # noqa: ANN401 - structlog's
    method: str,
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """Adds the trace of the call that runs, if it is sampled."""
    del logger, method
    spans = sampled_spans.get()
    if spans:
        event.setdefault("trace_id", spans[0].trace_id_hex)
    return event


class _Guarded:
    """Runs a chain of processors; a value that one of them cannot handle costs the details, not the call."""

    def __init__(self, processors: Sequence[structlog.typing.Processor]) -> None:
        self._processors = processors

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:  # noqa: ANN401 - structlog's
        """Returns the rendered record."""
        text = str(event.get("event", ""))[:500]
        try:
            result: Any = event
            for processor in self._processors:
                result = processor(logger, method, result)
            return str(result)
        except Exception as error:  # noqa: BLE001 - logging must not fail what it reports
            return json.dumps({"event": text, "level": method, "log_error": type(error).__name__})


class _OutputLogger:
    """Writes rendered records to the output of the process; structlog makes one for each logger."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, record: str) -> None:
        """Writes a record."""
        write_plain(record)

    debug = info = warning = error = critical = exception = log = fatal = warn = msg
