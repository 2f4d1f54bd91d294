"""How a channel to a server is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

DEFAULT_TARGET = "localhost:50051"
"""Where a server listens unless told otherwise."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Certificates for a server that speaks TLS. All files are PEM."""

    ca_file: str | Path | None = None
    """Authorities that may sign the server's certificate. None: those of the system."""
    cert_file: str | Path | None = None
    """This client's certificate, for servers that ask for one. Goes with `key_file`."""
    key_file: str | Path | None = None
    """This client's key."""
    server_name: str | None = None
    """Name to expect in the server's certificate, where it differs from the address."""

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: give both or none")


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """Limits and patience of the connection."""

    max_message_bytes: int = 32 * 1024 * 1024
    """Largest message, out and in. The server has its own limit, 32 MiB by default."""
    keepalive_s: float = 60.0
    """Pause of an open call after which the peer is asked whether it lives. A ferserve server allows a
    question every 10 s; a gRPC server that was not told to hangs up if asked more often than every 300 s."""
    keepalive_timeout_s: float = 20.0
    """Time that the peer has to say so."""
    max_reconnect_backoff_s: float = 2.0
    """Longest wait between two tries to connect. Short, so that retries meet a fresh connection."""


Argument = tuple[str, int | str]


def channel_arguments(options: ChannelOptions, tls: TlsOptions | None) -> list[Argument]:
    """The gRPC channel arguments that the options stand for."""
    reconnect_ms, answer_ms = (
        round(options.max_reconnect_backoff_s * 1000),
        round(options.keepalive_timeout_s * 1000),
    )
    arguments: list[Argument] = [
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.keepalive_time_ms", round(options.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", answer_ms),
        # gRPC waits the longer of the two for the answer to a ping; this one is 60 s unless it is set.
        ("grpc.http2.ping_timeout_ms", answer_ms),
        ("grpc.initial_reconnect_backoff_ms", min(100, reconnect_ms)),
        ("grpc.max_reconnect_backoff_ms", reconnect_ms),
    ]
    if tls is not None and tls.server_name is not None:
        arguments.append(("grpc.ssl_target_name_override", tls.server_name))
    return arguments


def open_channel(target: str, tls: TlsOptions | None, options: ChannelOptions) -> grpc.Channel:
    """A channel for blocking calls. It connects with the first call.

    Raises:
        OSError: A file of `tls` cannot be read.
    """
    arguments = channel_arguments(options, tls)
    if tls is None:
        return grpc.insecure_channel(target, options=arguments)
    return grpc.secure_channel(target, _credentials(tls), options=arguments)


def open_aio_channel(target: str, tls: TlsOptions | None, options: ChannelOptions) -> grpc.aio.Channel:
    """A channel for the running event loop. It connects with the first call.

    Raises:
        OSError: A file of `tls` cannot be read.
    """
    arguments = channel_arguments(options, tls)
    if tls is None:
        return grpc.aio.insecure_channel(target, options=arguments)
    return grpc.aio.secure_channel(target, _credentials(tls), options=arguments)


def _credentials(tls: TlsOptions) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca_file),
        private_key=_read(tls.key_file),
        certificate_chain=_read(tls.cert_file),
    )


def _read(path: str | Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
