"""Serves /metrics to Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from prometheus_client import start_http_server

if TYPE_CHECKING:
    from types import TracebackType

    from prometheus_client import CollectorRegistry


class MetricsAddressError(Exception):
    """The address cannot be listened on; the text says which."""


class MetricsServer:
    """An HTTP server with /metrics on threads of its own. Open it as a context manager.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, registry: CollectorRegistry, address: str) -> None:
        """Starts listening.

        Args:
            registry: What to serve.
            address: HOST:PORT; port 0 picks a free one.

        Raises:
            MetricsAddressError: It is no HOST:PORT, or it is taken.
        """
        host, _, port = address.rpartition(":")
        try:
            self._server, self._thread = start_http_server(int(port), addr=host.strip("[]"), registry=registry)
        except (OSError, ValueError, OverflowError) as error:
            raise MetricsAddressError(
                f"cannot serve metrics on {address!r}: {error}; choose another with --metrics-listen"
            ) from error
        self.port: int = self._server.server_port

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
