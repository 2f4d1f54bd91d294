"""The command `ferserve-server`."""

from __future__ import annotations

import contextlib
import os
import sys

from ferserve_server.app.models import opened_loader
from ferserve_server.backends.selection import BackendMissingError
from ferserve_server.config.reading import SettingsError, format_settings, load_settings
from ferserve_server.telemetry.logging import set_up_logging

EXIT_USAGE = 2
"""Exit code for settings that cannot be used, as argparse has it."""

EXIT_SYSTEM = 71
"""Exit code when the system refuses what is needed: EX_OSERR of sysexits.h."""


def main() -> None:
    """Runs the server until SIGTERM or SIGINT; exits 0 if everything it took was answered."""
    try:
        settings = load_settings(sys.argv[1:])
    except SettingsError as error:
        sys.exit(_complain(str(error)))
    if settings.print_config:
        print(format_settings(settings))
        return
    set_up_logging(settings.log_level, settings.log_format)
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
            # Here, since it takes most of a second, and the first engine process comes up meanwhile.
            from ferserve_server.app import primary_main  # noqa: PLC0415

            try:
                code = primary_main.run(settings, loader)
            except primary_main.START_ERRORS as error:
                code = _complain(str(error))
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything of ours is closed. TensorFlow and gRPC keep native threads, and tearing the interpreter down under
    # them can abort the process ("FATAL: exception not rethrown") after all the work is done.
    os._exit(code)


def _complain(text: str) -> int:
    for line in text.splitlines():
        print(f"ferserve-server: {line}", file=sys.stderr)
    return EXIT_USAGE
