"""Structured logs on stderr: one JSON object a line, or coloured lines on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer


def set_up_logging(level: str, log_format: str) -> None:
    """Sets the process's logging up. Call once, at start.

    Args:
        level: Least severity: debug, info, warning or error.
        log_format: json, console, or auto, which is console on a terminal.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if console:
        processors.append(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))
    else:
        # The library's ready-made renderer adds every local variable, and with it the callers' pixels.
        traces = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        processors += [traces, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
