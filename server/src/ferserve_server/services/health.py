"""Implements standard gRPC health, following the state of the models and the drain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterable

EMOTION_SERVICE: Final = "ferserve.v1.EmotionService"
MODEL_SERVICE: Final = "ferserve.v1.ModelService"
WHOLE_SERVER: Final = ""


class HealthReporter:
    """Answers `grpc.health.v1.Health` for the server ("") and for each service. Event loop only.

    Args of the constructor:
        others: Names of services beside our own that classify faces.

    Attributes:
        ready: Whether faces can be classified, as last reported.
        draining: Whether the server goes down.
    """

    def __init__(self, others: Iterable[str] = ()) -> None:
        self._classifying = (WHOLE_SERVER, EMOTION_SERVICE, *others)
        self.servicer = health.aio.HealthServicer()
        self.ready = False
        self.draining = False
        self._reported: dict[str, bool] = {}

    async def report(self, *, ready: bool) -> None:
        """Reports whether faces can be classified; model metadata is served either way until the drain."""
        self.ready = ready
        await self._set({**dict.fromkeys(self._classifying, ready), MODEL_SERVICE: True})

    async def drain(self) -> None:
        """Reports NOT_SERVING for everything from now on."""
        self.draining = True
        await self._set(dict.fromkeys((*self._classifying, MODEL_SERVICE), False))

    def status(self, service: str) -> int | None:
        """Returns a service's `HealthCheckResponse.ServingStatus`; None if there is no such service."""
        serving = self._reported.get(service)
        if serving is None:
            return None
        status = health_pb2.HealthCheckResponse
        return int(status.SERVING if serving else status.NOT_SERVING)

    async def _set(self, serving: dict[str, bool]) -> None:
        for service, wanted in serving.items():
            now = wanted and not self.draining
            if self._reported.get(service) is now:
                continue
            self._reported[service] = now
            status = health_pb2.HealthCheckResponse
            await self.servicer.set(service, status.SERVING if now else status.NOT_SERVING)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Holds what a health check over TLS needs, PEM.

    Attributes:
        authorities: Authorities of the server's certificate.
        key: Private key of `certificate`, or None.
        certificate: Certificate to show if the server asks, or None.
        server_name: Name in the server's certificate, if it is not that of the address.
    """

    authorities: bytes
    key: bytes | None = None
    certificate: bytes | None = None
    server_name: str | None = None


def check_health(
    address: str,
    services: Iterable[str] = (WHOLE_SERVER,),
    *,
    timeout_s: float = 3.0,
    tls: ClientTls | None = None,
) -> bool:
    """Asks a server for its health; False if it does not serve or is unreachable. Blocking.

    Args:
        address: HOST:PORT or unix:PATH. No proxy of the environment is used.
        services: Names of services; "" is the whole server.
        timeout_s: Longest wait for each, in seconds.
        tls: For TLS, or None.
    """
    options: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0)]
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    opened = (
        grpc.insecure_channel(address, options)
        if tls is None
        else grpc.secure_channel(
            address, grpc.ssl_channel_credentials(tls.authorities, tls.key, tls.certificate), options
        )
    )
    with opened as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answers = [
                stub.Check(  # type: ignore[attr-defined]  # the stubs leave the methods out
                    health_pb2.HealthCheckRequest(service=service), timeout=timeout_s
                )
                for service in services
            ]
        except grpc.RpcError:
            return False
        return all(answer.status == health_pb2.HealthCheckResponse.SERVING for answer in answers)
