"""Implements the command `ferserve-server`."""

from __future__ import annotations

import contextlib
import os
import sys

from ferserve_server import __version__
from ferserve_server.app.models import opened_loader, stop_loading
from ferserve_server.backends.selection import BackendMissingError
from ferserve_server.config.reading import SettingsError, format_settings, read_command
from ferserve_server.runtime.process_output import flush_output, open_output, write_plain
from ferserve_server.telemetry.logging import set_up_logging

EXIT_USAGE = 2
"""Exit code for settings that cannot be used, as argparse has it."""

_LAST_RECORDS_S = 0.5
"""Maximum wait at the end for a slow reader of the log, in seconds."""

EXIT_SYSTEM = 71
"""Exit code when the system rejects what is needed: EX_OSERR of sysexits.h."""


def main() -> None:
    """Runs the server until SIGTERM or SIGINT; exits 0 if every accepted call was answered."""
    if sys.argv[1:] == ["--version"]:
        print(__version__)
        return
    try:
        settings, print_config = read_command(sys.argv[1:])
    except SettingsError as error:
        sys.exit(_complain(str(error)))
    if print_config:
        print(format_settings(settings))
        return
    open_output()
    set_up_logging(settings.log.log_level, settings.log.log_format)
    with contextlib.ExitStack() as stack:
        try:
            loader = stack.enter_context(opened_loader(settings))
        except BackendMissingError as error:
            code = _complain(str(error))
        except OSError as error:
            _complain(
                f"no engine process can be started: {error}. Free the resource, or run with --engine thread."
            )
            code = EXIT_SYSTEM
        else:
            # Imported here, since it takes most of a second, and the first engine process comes up meanwhile.
            from ferserve_server.app import primary_main  # noqa: PLC0415

            try:
                code = primary_main.run(settings, loader, lambda: stop_loading(loader))
            except primary_main.START_ERRORS as error:
                code = _complain(str(error))
    flush_output(_LAST_RECORDS_S)
    # Everything of the server is closed. TensorFlow and gRPC keep native threads, and tearing the interpreter down
    # under them can abort the process ("FATAL: exception not rethrown") after all the work is done.
    os._exit(code)


def _complain(text: str) -> int:
    write_plain("\n".join(f"ferserve-server: {line}" for line in text.splitlines()))
    return EXIT_USAGE
