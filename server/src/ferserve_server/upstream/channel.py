"""Opens the channel to a model tier; load balancing, health checks and retries are gRPC's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc

from ferserve_server.services.health import EMOTION_SERVICE, MODEL_SERVICE

if TYPE_CHECKING:
    from pathlib import Path

_KEEPALIVE_MS: Final = (20_000, 10_000)
"""Keepalive interval and timeout, in milliseconds, which gRPC handles on threads of its own. ferserve servers
allow a ping every 10 s. While data flow gRPC pings by itself, to measure the bandwidth, and waits a minute for
that answer, in which it sends no other ping: so that timeout is set as well."""

_RECONNECT_MS: Final = (100, 1_000)
"""Minimum and maximum wait between two connection attempts, in milliseconds, because gRPC's maximum is two
minutes."""

_CONNECT_MS: Final = 5_000
"""Maximum time of a connection attempt, in milliseconds; a live server answers in 2 round trips, 4 with TLS."""

_RETRY_BUFFER_BYTES: Final = 256 * 2**20
"""Maximum size of the retry buffer, in bytes, because a call whose message does not fit is never retried and
gRPC's default of 256 KiB is less than 128 faces."""


class UpstreamFilesError(Exception):
    """Reports an unusable PEM file for the connection to the model tier; the text names it."""


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """Holds PEM files: the authorities for the tier's servers, and this server's identity, if requested."""

    authorities: Path
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            UpstreamFilesError: One cannot be read.
        """
        try:
            return grpc.ssl_channel_credentials(
                self.authorities.read_bytes(),
                self.key.read_bytes() if self.key else None,
                self.certificate.read_bytes() if self.certificate else None,
            )
        except OSError as error:
            raise UpstreamFilesError(f"TLS file {error.filename} cannot be read: {error.strerror}") from error


def open_channel(target: str, max_attempts: int, tls: UpstreamTls | None) -> grpc.aio.Channel:
    """Opens the channel, which the caller closes. It connects by itself.

    Args:
        target: A gRPC target.
        max_attempts: Tries of one call, the first included, 1 to 5.
        tls: For TLS, or None.

    Raises:
        UpstreamFilesError: A file of `tls` cannot be read.
    """
    options = channel_options(max_attempts)
    if tls is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, tls.credentials(), options)


def channel_options(max_attempts: int) -> list[tuple[str, Any]]:
    """Builds the channel's arguments. Pure."""
    every_ms, answer_ms = _KEEPALIVE_MS
    first_ms, max_ms = _RECONNECT_MS
    return [
        ("grpc.service_config", json.dumps(service_config(max_attempts))),
        # Only addresses from DNS count, not a service config that DNS may hold for other clients.
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_retries", 1),
        ("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", every_ms),
        ("grpc.keepalive_timeout_ms", answer_ms),
        ("grpc.http2.ping_timeout_ms", answer_ms),
        ("grpc.initial_reconnect_backoff_ms", first_ms),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", max_ms),
        # A replaced server has another address; DNS is asked when a connection ends, at most this often.
        ("grpc.dns_min_time_between_resolutions_ms", max_ms),
    ]


def service_config(max_attempts: int) -> dict[str, Any]:
    """Builds the service config for load balancing and retries. Pure.

    Source: https://github.com/grpc/grpc/blob/master/doc/service_config.md. Only UNAVAILABLE is retried: a full
    queue must not get the same work twice. When 50 more attempts have failed than succeeded no call is retried
    until that is made up, so that an overloaded tier does not get all calls several times.
    """
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": EMOTION_SERVICE},
    }
    if max_attempts > 1:
        config["methodConfig"] = [
            {
                "name": [{"service": EMOTION_SERVICE}, {"service": MODEL_SERVICE}],
                "retryPolicy": {
                    "maxAttempts": max_attempts,
                    "initialBackoff": "0.02s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 1}
    return config
