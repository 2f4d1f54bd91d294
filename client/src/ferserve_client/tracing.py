"""Passes the caller's trace context on to the server, where OpenTelemetry is in use."""

from __future__ import annotations

import sys
from typing import Any


def trace_arguments() -> dict[str, Any]:
    """Return the argument of a call that carries the headers of the current trace, such as `traceparent`.

    The process's propagator writes them. Empty if there is no current trace, and if the program
    has not imported OpenTelemetry: nothing is imported for it.
    """
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None or not api.get_current_span().get_span_context().is_valid:
        return {}
    from opentelemetry import propagate  # noqa: PLC0415 - an optional package, which is there by now

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    # Names of gRPC's metadata are lowercase; propagators such as B3 write them with capitals.
    return {"metadata": tuple((name.lower(), value) for name, value in carrier.items())}
