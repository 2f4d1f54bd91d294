"""Opens the addresses of the primary process: gRPC, HTTP, metrics.

Sockets are bound when the server starts, so that an address that is taken is reported at once. gRPC and HTTP
listen later, when a model answers.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from ferserve_server.domain import metrics
from ferserve_server.runtime.addresses import ListenError, bound, sibling_address
from ferserve_server.runtime.background_tasks import background
from ferserve_server.runtime.connection_limits import ConnectionLimiter, connection_budget
from ferserve_server.runtime.endpoint import Endpoint
from ferserve_server.runtime.pulse import Pulse
from ferserve_server.telemetry.exposition import MetricsServer

if TYPE_CHECKING:
    import socket

    from ferserve_server.app.services import Service
    from ferserve_server.config.settings import Settings
    from ferserve_server.domain.models import Models
    from ferserve_server.runtime.clock import MonotonicClock
    from ferserve_server.services.health import HealthReporter
    from ferserve_server.telemetry.aggregation import MergedRegistry
    from ferserve_server.telemetry.recorder import PrometheusRecorder

MAX_METRICS_CONNECTIONS: Final = 64
"""Maximum number of connections to /metrics, because each has a thread while it is open."""

MAX_METRICS_CONNECTIONS_PER_ADDRESS: Final = 16
"""Maximum number of connections to /metrics from one address."""


def complete_addresses(settings: Settings) -> Settings:
    """Completes the addresses that follow the host of `listen`.

    Raises:
        ListenError: One is no address.
    """
    addresses = {"http_listen": settings.http.http_listen, "metrics_listen": settings.server.metrics_listen}
    sibling_address(settings.server.listen, settings.server.listen, "--listen")
    completed = {
        name: sibling_address(address, settings.server.listen, f"--{name.replace('_', '-')}")
        for name, address in addresses.items()
        if address != "off"
    }
    return settings.replace(**completed)


def page_url(settings: Settings, http_port: int | None) -> str | None:
    """Returns the URL of the web page on this machine, or None if there is no page."""
    if http_port is None or not settings.http.page:
        return None
    return f"{'https' if settings.tls.tls_cert_file else 'http'}://localhost:{http_port}/"


def bind_grpc(settings: Settings, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Binds the address of the service until the stack is closed; returns no socket for gRPC's server.

    Raises:
        ListenError: It is taken, or no address of this host.
    """
    if settings.server.grpc_server == "grpcio":
        return []
    return stack.enter_context(bound(settings.server.listen, "--listen"))


def bind_http(settings: Settings, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Binds the address of HTTP until the stack is closed; returns no socket without an HTTP server.

    Raises:
        ListenError: It is taken, or no address of this host.
    """
    if settings.http.http_listen == "off":
        return []
    return stack.enter_context(bound(settings.http.http_listen, "--http-listen"))


def listen_metrics(
    settings: Settings,
    registry: MergedRegistry,
    recorder: PrometheusRecorder,
    health: HealthReporter,
    stack: contextlib.AsyncExitStack,
) -> int | None:
    """Serves /metrics and probes, if the settings ask for it, until the stack is closed; returns the port.

    Probes are there without TLS and from the start: /readyz says what health says, and /healthz whether the event
    loop runs.

    Raises:
        ListenError: The address cannot be listened on.
    """
    if settings.server.metrics_listen == "off":
        return None
    limiter = ConnectionLimiter(MAX_METRICS_CONNECTIONS, MAX_METRICS_CONNECTIONS_PER_ADDRESS)
    _record_connections("metrics", limiter, recorder)
    if settings.server.metrics_listen.startswith("unix:"):
        raise ListenError(
            f"cannot listen on {settings.server.metrics_listen!r}: metrics need HOST:PORT; "
            "choose another with --metrics-listen"
        )
    sockets = stack.enter_context(bound(settings.server.metrics_listen, "--metrics-listen"))
    pulse = Pulse()
    stack.enter_context(background("pulse", pulse.beat, recorder.background_failed))
    probes = {"/healthz": pulse.is_alive, "/readyz": lambda: health.ready and not health.draining}
    return stack.enter_context(MetricsServer(registry, sockets, limiter, probes)).port


def _record_connections(port: str, limiter: ConnectionLimiter, recorder: PrometheusRecorder) -> None:
    recorder.read(metrics.CONNECTIONS, lambda: limiter.open_count, port)
    recorder.follow(metrics.CONNECTIONS_REJECTED, lambda: limiter.rejected_count, port)


def prepare_http(
    settings: Settings,
    sockets: list[socket.socket],
    service: Service,
    models: Models,
    recorder: PrometheusRecorder,
    clock: MonotonicClock,
    descriptor_limit: int,
) -> contextlib.AbstractAsyncContextManager[Endpoint]:
    """Builds the HTTP server; returns the block in which it serves. Without sockets it serves nothing."""
    if not sockets:
        return contextlib.nullcontext(Endpoint(None))
    # Imported here, because servers without it need not spend 7 MiB and 0.5 s on the library.
    from ferserve_server.http.listener import listening_http  # noqa: PLC0415
    from ferserve_server.http.origins import OriginPolicy  # noqa: PLC0415
    from ferserve_server.http.server import HttpOptions, build_http  # noqa: PLC0415

    application = build_http(
        service.calls,
        service.analyze,
        service.emotion,
        models,
        service.interop.open_inference,
        service.interop.repository,
        service.health,
        limits=service.limits,
        options=HttpOptions(
            default_model="" if settings.upstream.upstream else settings.models.default_model,
            body_timeout_s=settings.http.http_body_timeout_s,
            detection=settings.detection.options,
            origins=OriginPolicy(settings.http.http_origins),
            page=settings.http.page,
        ),
        clock=clock,
    )
    budget = connection_budget(settings.http.max_http_connections, descriptor_limit)
    limiter = ConnectionLimiter(budget, settings.http.max_http_connections_per_address)
    _record_connections("http", limiter, recorder)
    return listening_http(
        application, sockets, service.tls, limiter, max_header_bytes=settings.limits.max_metadata_bytes
    )
