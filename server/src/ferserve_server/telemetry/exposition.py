"""Serves /metrics to Prometheus, and probes to those who have no certificate.

It runs on threads of its own, so that a busy event loop is seen rather than hidden: a scrape that waits for the
loop would show nothing of its load.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication

    from prometheus_client import CollectorRegistry

REQUEST_TIMEOUT_S: Final = 10.0
"""Maximum time for a complete request and for reading its answer, in seconds, before the connection is closed."""

_BACKLOG: Final = 64


class Slot(Protocol):
    """Represents one open connection."""

    def leave(self) -> None:
        """Releases the connection's slot."""


class Limiter(Protocol):
    """Counts the open connections of a port. Thread-safe."""

    def enter(self, host: str) -> Slot | None:
        """Accepts a connection from an address, or returns None to reject it."""


class MetricsServer:
    """Serves /metrics and probes over HTTP, one thread for each open connection. Open it as a context manager.

    Attributes:
        port: Port that it listens on.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        sockets: Sequence[socket.socket],
        limiter: Limiter,
        probes: Mapping[str, Callable[[], bool]],
    ) -> None:
        """Starts to serve.

        Args:
            registry: The metrics.
            probes: Paths that are answered by 200 while a function returns True, and else by 503. Called on
                threads of this server.
            sockets: Bound sockets of one port; closed by the caller.
            limiter: Bounds the connections, and so the threads.
        """
        self.port: int = sockets[0].getsockname()[1]
        self._servers = [_Server(each, limiter) for each in sockets]
        for server in self._servers:
            server.set_app(_with_probes(make_wsgi_app(registry), probes))
        self._threads = [
            threading.Thread(target=server.serve_forever, name="metrics", daemon=True) for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()


def _with_probes(metrics: WSGIApplication, probes: Mapping[str, Callable[[], bool]]) -> WSGIApplication:
    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        probe = probes.get(environ.get("PATH_INFO", ""))
        if probe is None:
            return metrics(environ, start_response)
        good = probe()
        body = b"ok\n" if good else b"no\n"
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        start_response("200 OK" if good else "503 Service Unavailable", headers)
        return [body]

    return application


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Serves one bound socket."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, limiter: Limiter) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.socket.listen(_BACKLOG)
        self.server_address = listening.getsockname()[:2]
        self.server_name, self.server_port = "ferserve", self.server_address[1]
        self.setup_environ()
        self._limiter = limiter
        self._slots: dict[Any, Slot] = {}

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401 - the library's signature
        slot = self._limiter.enter(str(client_address[0]))
        if slot is None:
            return False
        self._slots[request] = slot
        return True

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the library's signature
        slot = self._slots.pop(request, None)
        try:
            super().shutdown_request(request)
        finally:
            if slot is not None:
                slot.leave()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the library's signature
        """Ignores broken connections: scrapers disconnect at any time."""


class _Handler(WSGIRequestHandler):
    """Reads one request, with a limit on its time, and logs nothing."""

    timeout = REQUEST_TIMEOUT_S

    def handle(self) -> None:
        # The socket's timeout bounds one read; a peer that sends single bytes slowly is cut off by the timer.
        connection: socket.socket = self.connection
        timer = threading.Timer(REQUEST_TIMEOUT_S * 2, _cut, (connection,))
        timer.daemon = True
        timer.start()
        try:
            super().handle()
        finally:
            timer.cancel()

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - the library's signature
        """Logs nothing."""


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
