"""The command `ferserve-server`."""

from __future__ import annotations

import os
import sys

import uvloop

from ferserve_server.app import serve
from ferserve_server.backends.choice import BackendMissingError
from ferserve_server.observability.exposition import MetricsAddressError
from ferserve_server.observability.logging import set_up_logging
from ferserve_server.settings_reading import SettingsError, format_settings, load_settings
from ferserve_server.transport.addresses import ListenError
from ferserve_server.transport.control import TokenFileError
from ferserve_server.transport.upstream.channel import UpstreamFilesError

EXIT_USAGE = 2
"""Exit code for settings that cannot be used, as argparse has it."""


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
    try:
        code = uvloop.run(serve(settings))
    except (BackendMissingError, ListenError, MetricsAddressError, TokenFileError, UpstreamFilesError) as error:
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
