"""Builds the grpcio server: its options, its address, its services."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from ferserve_server.interop.messages import GenericHandler, ReflectedPools
from ferserve_server.runtime.addresses import ListenError, claimed, is_unix, parse_address
from ferserve_server.runtime.endpoint import Endpoint
from ferserve_server.services.health import EMOTION_SERVICE, MODEL_SERVICE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ferserve_server.grpc.router import Router
    from ferserve_server.runtime.tls import ServerTls
    from ferserve_server.services.emotion import EmotionServicer
    from ferserve_server.services.health import HealthReporter
    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.services.models import ModelServicer

_TRANSPORT_SLACK: Final = 2
"""gRPC itself rejects messages and metadata of this many times the limits, with a text that names no setting;
what is between gets a clear INVALID_ARGUMENT from `limits`."""


_UNTIL_THE_END_S: Final = 86_400.0
"""Grace of a stop whose calls are cut later, by a second stop with a shorter one."""


def tls_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Returns credentials that follow the files: gRPC asks for them at each handshake, on threads of its own."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        material = tls.material()
        pair = (material.key, material.certificate)
        return grpc.ssl_server_certificate_configuration([pair], material.client_authorities or None)

    verified = bool(tls.material().client_authorities)
    return grpc.dynamic_ssl_server_credentials(configuration(), configuration, verified)


def register_services(
    server: grpc.aio.Server | Router,
    emotion: EmotionServicer,
    models: ModelServicer,
    health_reporter: HealthReporter,
    compat: Sequence[GenericHandler] = (),
    *,
    with_reflection: bool,
) -> None:
    """Registers all services on a server.

    Args:
        server: Takes them.
        emotion: EmotionService.
        models: ModelService.
        health_reporter: The standard health service.
        compat: Services of other servers' interfaces.
        with_reflection: Whether to tell callers of the services and their messages.
    """
    server.add_generic_rpc_handlers((emotion.handlers(), models.handlers()))
    health_pb2_grpc.add_HealthServicer_to_server(health_reporter.servicer, server)  # type: ignore[arg-type]  # it asks for no more
    server.add_generic_rpc_handlers(tuple(compat))
    if with_reflection:
        others = [str(handler.service_name()) for handler in compat if isinstance(handler, grpc.ServiceRpcHandler)]
        names = (EMOTION_SERVICE, MODEL_SERVICE, *others, health.SERVICE_NAME, reflection.SERVICE_NAME)
        servicer = reflection.aio.ReflectionServicer(names, pool=ReflectedPools())
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated


def new_server(
    limits: RequestLimits, *, share_port: bool = False, max_connection_age_s: float = 0.0
) -> grpc.aio.Server:
    """Makes gRPC's server, without services and not yet listening.

    Args:
        limits: Bounds of a request.
        share_port: Whether other processes listen on the same port.
        max_connection_age_s: After how many seconds clients are asked to connect again; 0: never.
    """
    options = server_options(limits, share_port=share_port)
    if max_connection_age_s:
        # Calls that are open then go on: the grace is without end unless it is set.
        options.append(("grpc.max_connection_age_ms", round(max_connection_age_s * 1000)))
    return grpc.aio.server(options=options)


@contextlib.asynccontextmanager
async def listening_grpc(
    server: grpc.aio.Server, address: str, tls: ServerTls | None, flag: str
) -> AsyncIterator[Endpoint]:
    """Runs a server until the block is left, which gives running calls a second.

    Args:
        server: With its services.
        address: HOST:PORT or unix:PATH; port 0 picks a free one.
        tls: For TLS, or None.
        flag: Names the setting in errors.

    Yields:
        The address. gRPC's server answers no call that arrives after `leave`, and clients repeat it elsewhere.

    Raises:
        ListenError: The address cannot be listened on, or the TLS files cannot be used.
    """
    with claimed(address, flag):
        port = _bind(server, address, tls, flag)
        await server.start()
        stopping: list[asyncio.Future[None]] = []

        def leave() -> None:
            if not stopping:
                stopping.append(asyncio.ensure_future(server.stop(grace=_UNTIL_THE_END_S)))

        try:
            yield Endpoint(port, leave, lambda: bool(stopping) and stopping[0].done())
        finally:
            await server.stop(grace=1.0)
            await asyncio.gather(*stopping)


def _bind(server: grpc.aio.Server, address: str, tls: ServerTls | None, flag: str) -> int | None:
    try:
        target = str(parse_address(address))  # gRPC takes the last 16 bits of whatever number there is
    except ValueError as error:
        raise ListenError(f"cannot listen on {address!r}: {error}; choose another with {flag}") from error
    try:
        if tls is None:
            port = server.add_insecure_port(target)
        else:
            port = server.add_secure_port(target, tls_credentials(tls))
    except RuntimeError as error:
        raise ListenError(
            f"cannot listen on {address!r}: it is taken, or no address of this machine; choose another with {flag}"
        ) from error
    if port == 0:
        raise ListenError(f"cannot listen on {address!r}; choose another with {flag}")
    return None if is_unix(address) else port


def server_options(limits: RequestLimits, *, share_port: bool = False) -> list[tuple[str, int]]:
    """Returns the options of every gRPC server of this process."""
    metadata = limits.max_metadata_bytes * _TRANSPORT_SLACK
    return [
        # A second server on the port must fail, not share the callers by accident.
        ("grpc.so_reuseport", int(share_port)),
        ("grpc.max_receive_message_length", limits.max_message_bytes * _TRANSPORT_SLACK),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", metadata),
        ("grpc.absolute_max_metadata_size", metadata),
        ("grpc.max_concurrent_streams", 1000),
        # Dead peers are noticed within 80 s; callers may ping every 10 s.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # gRPC waits the longer of the two for the answer to a ping; this one is 60 s unless it is set.
        ("grpc.http2.ping_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]
