"""Opens channels to one server or several."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import grpc
import grpc.aio

DEFAULT_TARGET = "localhost:50051"
"""Address of a server by default."""

LoadBalancing = Literal["pick_first", "round_robin"]
"""`pick_first`: one address at a time. `round_robin`: calls rotate over all healthy addresses."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Names the certificates for a server that speaks TLS. All files are PEM."""

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
    """Sets limits, timeouts and load balancing of the connection."""

    max_message_bytes: int = 32 * 1024 * 1024
    """Largest message, out and in. The server has its own limit, 32 MiB by default."""
    keepalive_s: float = 60.0
    """Pause of an open call after which the peer is asked whether it lives. A ferserve server allows a
    question every 10 s; a gRPC server that was not configured to hangs up if asked more often than every 300 s."""
    keepalive_timeout_s: float = 20.0
    """Time that the peer has to say so."""
    max_reconnect_backoff_s: float = 2.0
    """Longest wait between two tries to connect. Short, so that retries meet a fresh connection."""
    load_balancing: LoadBalancing | None = None
    """Distribution of calls over addresses. None: `round_robin` for several targets, else `pick_first`. Set
    `round_robin` for one name with several addresses in DNS."""
    health_checks: bool = True
    """Whether `round_robin` asks every server for its health (grpc.health.v1 `Watch`) and passes over those
    that do not serve, such as draining ones."""
    service_config: str | None = None
    """gRPC service config as JSON, in the place of the one that the two fields above make."""


Argument = tuple[str, int | str]
Target = str | Sequence[str]
"""HOST:PORT, any gRPC target, or several of the form HOST:PORT."""


def channel_arguments(options: ChannelOptions, tls: TlsOptions | None, target: Target) -> list[Argument]:
    """Return the gRPC channel arguments that the options stand for."""
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
    targets = targets_of(target)
    if all(is_loopback(each) for each in targets):
        # gRPC sends loopback calls to a proxy of `http_proxy` too unless `no_proxy` names each spelling.
        arguments.append(("grpc.enable_http_proxy", 0))
    config = service_config(options, several=len(targets) > 1)
    if config is not None:
        arguments.append(("grpc.service_config", config))
    if tls is not None and tls.server_name is not None:
        arguments.append(("grpc.ssl_target_name_override", tls.server_name))
    return arguments


def targets_of(target: Target) -> list[str]:
    """Split targets that are given as a list or separated by commas.

    Raises:
        ValueError: There is none.
    """
    given = [target] if isinstance(target, str) else list(target)
    # `ipv4:` and `ipv6:` targets hold commas of their own.
    split = (
        [each]
        if len(given) == 1 and (each := given[0]).startswith(("ipv4:", "ipv6:"))
        else ",".join(given).split(",")
    )
    targets = [each.strip() for each in split if each.strip()]
    if not targets:
        raise ValueError("no server is named: give HOST:PORT")
    return targets


def is_loopback(target: str) -> bool:
    """Tell whether a target leads to this machine only."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    host, _ = _split_port(
        target.removeprefix("dns:").removeprefix("///").removeprefix("ipv4:").removeprefix("ipv6:")
    )
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def service_config(options: ChannelOptions, *, several: bool) -> str | None:
    """Return the service config of the options as JSON; None leaves gRPC's own defaults."""
    if options.service_config is not None:
        return options.service_config
    balancing = options.load_balancing or ("round_robin" if several else "pick_first")
    if balancing == "pick_first":
        return None
    config: dict[str, object] = {"loadBalancingConfig": [{balancing: {}}]}
    if options.health_checks:
        config["healthCheckConfig"] = {"serviceName": ""}
    return json.dumps(config)


def grpc_target(target: Target) -> str:
    """Return the target as gRPC takes it. Names among several targets are resolved here, once.

    Raises:
        OSError: A name among several targets cannot be resolved.
        ValueError: There is no target, or one among several has no port.
    """
    targets = targets_of(target)
    if len(targets) == 1:
        return targets[0]
    addresses = [address for each in targets for address in _resolve(each)]
    family = "ipv6" if any(":" in host for host, _ in addresses) else "ipv4"
    if family == "ipv4":
        return "ipv4:" + ",".join(f"{host}:{port}" for host, port in addresses)
    # gRPC's static resolver takes one family; IPv4 addresses have a form in IPv6.
    mapped = [host if ":" in host else f"::ffff:{host}" for host, _ in addresses]
    return "ipv6:" + ",".join(f"[{host}]:{port}" for host, (_, port) in zip(mapped, addresses, strict=True))


def open_channel(target: Target, tls: TlsOptions | None, options: ChannelOptions) -> grpc.Channel:
    """Open a channel for blocking calls. It connects with the first call.

    Raises:
        OSError: A file of `tls` cannot be read, or a name among several targets cannot be resolved.
        ValueError: The target is empty.
    """
    arguments = channel_arguments(options, tls, target)
    if tls is None:
        return grpc.insecure_channel(grpc_target(target), options=arguments)
    return grpc.secure_channel(grpc_target(target), _credentials(tls), options=arguments)


def open_aio_channel(target: Target, tls: TlsOptions | None, options: ChannelOptions) -> grpc.aio.Channel:
    """Open a channel for the running event loop. It connects with the first call.

    Raises:
        OSError: A file of `tls` cannot be read, or a name among several targets cannot be resolved.
        ValueError: The target is empty.
    """
    arguments = channel_arguments(options, tls, target)
    if tls is None:
        return grpc.aio.insecure_channel(grpc_target(target), options=arguments)
    return grpc.aio.secure_channel(grpc_target(target), _credentials(tls), options=arguments)


def _resolve(target: str) -> list[tuple[str, int]]:
    host, port = _split_port(target.removeprefix("dns:").removeprefix("///"))
    if port is None:
        raise ValueError(f"{target} has no port: give HOST:PORT")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # One address per name: a name with several families leads to one server mostly.
    first = min(found, key=lambda each: each[0] != socket.AF_INET)
    return [(str(first[4][0]), port)]


def _split_port(target: str) -> tuple[str, int | None]:
    if target.startswith("["):
        host, _, rest = target[1:].partition("]")
        return host, int(rest[1:]) if rest[1:].isdecimal() else None
    if target.count(":") > 1:
        return target, None
    host, _, port = target.partition(":")
    return host, int(port) if port.isdecimal() else None


def _credentials(tls: TlsOptions) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca_file),
        private_key=_read(tls.key_file),
        certificate_chain=_read(tls.cert_file),
    )


def _read(path: str | Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
