"""Which of gRPC's two ways to wait for sockets is taken; settled before gRPC is imported, so nothing here does.

gRPC 1.76 to 1.81 can read sockets on threads of its event engine, which hand what comes to the thread that waits
for it, as 1.81 does by default; or that thread reads them itself, as in all versions before. The second saves
changes of thread for every message, a tenth to a fifth of the processor time of a bare call (docs/adr/0023).
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
"""Others have one way only, and complain of the word."""


def choose_polling(
    environment: MutableMapping[str, str] = os.environ, grpc_version: str = version("grpcio")
) -> None:
    """Has gRPC read sockets without its event engine, unless the environment says what it should do."""
    release = tuple(int(part) for part in grpc_version.split(".")[:2])
    if _FIRST_WITH_BOTH <= release <= _LAST_WITH_BOTH:
        environment.setdefault(_VARIABLE, _WITHOUT_DETOUR)
