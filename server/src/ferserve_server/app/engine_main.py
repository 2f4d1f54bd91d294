"""Runs an engine process; the server starts `python -m ferserve_server.app.engine_main FD FD OPTIONS`."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import Any, Final

from ferserve_server.engine.messages import BATCH_MESSAGE_BYTES
from ferserve_server.engine.process import EngineOptions
from ferserve_server.ipc.channel import Channel
from ferserve_server.ipc.child_process import (
    MainThread,
    call_when_parent_ends,
    die_with_parent,
    ignore_stop_signals,
    lower_priority,
    prefer_for_oom,
)

EXIT_BROKEN: Final = 70
"""Exit code of an engine that cannot answer: EX_SOFTWARE of sysexits.h."""

_OOM_SCORE: Final = 500
"""OOM score of an engine process, because a killed engine is restarted, unlike the server."""


def main(arguments: list[str]) -> None:
    """Runs until the server closes the channels or ends.

    Args:
        arguments: File descriptors of the channels for requests and for batches, and the options as JSON.
    """
    ignore_stop_signals()
    die_with_parent()
    prefer_for_oom(_OOM_SCORE)
    requests = Channel.from_fd(int(arguments[0]))
    batches = Channel.from_fd(int(arguments[1]), BATCH_MESSAGE_BYTES)
    # Exits without cleanup: there is nothing to keep, and TensorFlow's threads may abort an orderly exit.
    _start("watch", call_when_parent_ends, requests, lambda: os._exit(0))

    main_thread = MainThread()
    _start("requests", _answer, EngineOptions.from_json(arguments[2]), main_thread, requests, batches)
    main_thread.run()


def _answer(options: EngineOptions, main_thread: MainThread, requests: Channel, batches: Channel) -> None:
    """Imports the engine and answers requests, on a thread that may have to yield to live traffic."""
    if options.low_priority:
        lower_priority()
    # Lower the priority first: everything below takes a while.
    import structlog  # noqa: PLC0415

    from ferserve_server.runtime.process_output import flush_output, open_child_output  # noqa: PLC0415
    from ferserve_server.telemetry.logging import set_up_logging  # noqa: PLC0415

    try:
        if options.log_framed:
            open_child_output()
        set_up_logging(options.log_level, options.log_format)
        _bring_up(options, main_thread, requests, batches)
    except BaseException:  # noqa: BLE001 - whatever it is, the server must not wait for an answer
        structlog.get_logger(__name__).exception("engine process ends")
        flush_output(1.0)
        os._exit(EXIT_BROKEN)


def _bring_up(options: EngineOptions, main_thread: MainThread, requests: Channel, batches: Channel) -> None:
    import structlog  # noqa: PLC0415

    from ferserve_server.backends.serving_thread import make_on  # noqa: PLC0415
    from ferserve_server.engine.worker import Worker  # noqa: PLC0415

    make_on(main_thread.do)
    loading: Any = importlib.import_module(options.loader_module)
    try:
        loading.bring_up(options)
    except Exception:  # noqa: BLE001 - loading a version meets the same, and says so where it is seen
        structlog.get_logger(__name__).exception("engine not brought up")
    Worker(loading.make_loader(options), main_thread, requests, batches).answer_requests()


def _start(name: str, target: Any, *args: object) -> None:  # noqa: ANN401 - any function
    threading.Thread(target=target, args=args, name=name, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
