"""Builds the grpcio server: its options, its address, its services."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from ferserve_server.interop.messages import GenericHandler, ReflectedPools
from ferserve_server.runtime.addresses import ListenError, claimed, is_unix, parse_address
from ferserve_server.services.health import EMOTION_SERVICE, MODEL_SERVICE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from ferserve_server.grpc.router import Router
    from ferserve_server.services.emotion import EmotionServicer
    from ferserve_server.services.health import HealthReporter
    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.services.models import ModelServicer

_TRANSPORT_SLACK: Final = 2
"""gRPC itself rejects messages and metadata of this many times the limits, with a text that names no setting;
what is between gets a clear INVALID_ARGUMENT from `limits`."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Names the PEM files of the server's identity, and of the authorities of callers, if these are verified."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None

    @classmethod
    def named(cls, certificate: Path | None, key: Path | None, client_authorities: Path | None) -> Self | None:
        """Returns the files that the settings name, or None without TLS."""
        return None if certificate is None or key is None else cls(certificate, key, client_authorities)

    def context(self) -> ssl.SSLContext:
        """Loads the files for a server on Python's own sockets.

        Raises:
            ListenError: One cannot be read, or they do not make an identity.
        """
        self._read()  # identifies the file; the context does not
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, password="")
            if self.client_authorities:
                context.load_verify_locations(self.client_authorities)
                context.verify_mode = ssl.CERT_REQUIRED
        except ssl.SSLError as error:
            files = ", ".join(str(path) for path in (self.certificate, self.key, self.client_authorities) if path)
            raise ListenError(f"TLS files {files} cannot be used: {error.reason or error}") from error
        return context

    def credentials(self) -> grpc.ServerCredentials:
        """Loads the files for gRPC, whose own error for bad ones is only that it cannot listen.

        Raises:
            ListenError: As above.
        """
        self.context()
        certificate, key, authorities = self._read()
        return grpc.ssl_server_credentials([(key, certificate)], authorities or None, bool(authorities))

    def _read(self) -> tuple[bytes, bytes, bytes]:
        try:
            authorities = self.client_authorities.read_bytes() if self.client_authorities else b""
            return self.certificate.read_bytes(), self.key.read_bytes(), authorities
        except OSError as error:
            raise ListenError(f"TLS file {error.filename} cannot be read: {error.strerror}") from error


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
    server: grpc.aio.Server, address: str, tls: TlsFiles | None, flag: str
) -> AsyncIterator[int | None]:
    """Runs a server until the block is left, which gives running calls a second.

    Args:
        server: With its services.
        address: HOST:PORT or unix:PATH; port 0 picks a free one.
        tls: For TLS, or None.
        flag: Names the setting in errors.

    Yields:
        The port; None for a socket's file.

    Raises:
        ListenError: The address cannot be listened on, or the TLS files cannot be used.
    """
    with claimed(address, flag):
        port = _bind(server, address, tls, flag)
        await server.start()
        try:
            yield port
        finally:
            await server.stop(grace=1.0)


def _bind(server: grpc.aio.Server, address: str, tls: TlsFiles | None, flag: str) -> int | None:
    try:
        target = str(parse_address(address))  # gRPC takes the last 16 bits of whatever number there is
    except ValueError as error:
        raise ListenError(f"cannot listen on {address!r}: {error}; choose another with {flag}") from error
    try:
        if tls is None:
            port = server.add_insecure_port(target)
        else:
            port = server.add_secure_port(target, tls.credentials())
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
