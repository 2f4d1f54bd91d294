"""Selects how gRPC waits for sockets; must run before gRPC is imported, so nothing here imports it.

gRPC 1.76 to 1.81 can read sockets on threads of its event engine, which hand data to the waiting thread, as 1.81
does by default; or that thread reads them itself, as in all versions before. The second saves context switches for
every message, a tenth to a fifth of the processor time of a bare call (docs/adr/0023).
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_VARIABLE: Final = "GRPC_EXPERIMENTS"
_WITHOUT_DETOUR: Final = "-event_engine_poller_for_python"

_FIRST_WITH_BOTH, _LAST_WITH_BOTH = (1, 76), (1, 81)
"""First and last version with both ways; others have one only and reject the setting."""


def choose_polling(
    environment: MutableMapping[str, str] = os.environ, grpc_version: str = version("grpcio")
) -> None:
    """Makes gRPC read sockets without its event engine, unless the environment selects otherwise."""
    release = tuple(int(part) for part in grpc_version.split(".")[:2])
    if _FIRST_WITH_BOTH <= release <= _LAST_WITH_BOTH:
        environment.setdefault(_VARIABLE, _WITHOUT_DETOUR)
