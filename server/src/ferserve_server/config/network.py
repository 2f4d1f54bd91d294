"""Declares the settings of addresses, connections, TLS, control calls and logs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from ferserve_server.config.group import Group


class ServerSettings(Group):
    """Holds the settings of the gRPC service, of the processes that serve it, and of the shutdown."""

    listen: str = Field(
        "0.0.0.0:50051", description="HOST:PORT or unix:PATH of the gRPC service; port 0 picks a free one"
    )
    listen_before_ready: bool = Field(
        False,
        description="accept gRPC and HTTP before a model answers, and answer MODEL_NOT_READY; for orchestrators "
        "whose probes decide who gets calls",
    )
    grpc_server: Literal["native", "grpcio"] = Field(
        "native",
        description="implementation of the gRPC server: native is ferserve's own on libnghttp2 and needs less "
        "processor time per call, grpcio is gRPC's; clients notice no difference",
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that accept gRPC calls; one of them runs the models, with grpc_server grpcio an "
        "additional one",
    )
    max_connections: int = Field(
        10_000, ge=1, le=1_000_000, description="gRPC connections per process; further ones are closed at once"
    )
    max_connections_per_peer: int = Field(
        4_000,
        ge=0,
        le=1_000_000,
        description="gRPC connections per process from one address; 0: no such limit, for use behind a proxy",
    )
    max_connection_age_s: float = Field(
        0.0,
        ge=0,
        le=86_400,
        description="seconds after which a gRPC client is asked to reconnect, so that it finds new servers; open "
        "calls continue; 0: never",
    )
    reflection: bool = Field(True, description="serve gRPC reflection")
    open_inference: bool = Field(True, description="serve the Open Inference Protocol, as Triton does")
    tf_serving: bool = Field(True, description="serve TensorFlow Serving's Predict and model status")
    metrics_listen: str = Field(
        "9464", description="HOST:PORT of /metrics, or PORT on the host of listen; off: no metrics server"
    )
    lame_duck_s: float = Field(
        0.0,
        ge=0,
        description="seconds after SIGTERM with health NOT_SERVING in which calls are still accepted",
    )
    drain_timeout_s: float = Field(
        30.0, gt=0, description="seconds that draining may take before the remaining calls are cancelled"
    )


def _split_origins(value: object) -> object:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return value
    origins = [str(part).strip().rstrip("/") for part in parts if str(part).strip()]
    for origin in origins:
        scheme, separator, host = origin.partition("://")
        if scheme not in {"http", "https"} or not separator or not host or "/" in host:
            raise ValueError(f"an origin is http:// or https:// and a host, without a path; got {origin!r}")
    return origins


class HttpSettings(Group):
    """Holds the settings of JSON over HTTP and of the page."""

    http_listen: str = Field(
        "8080",
        description="HOST:PORT or unix:PATH of the page and of JSON over HTTP, or PORT on the host of listen; "
        "off: no HTTP server",
    )
    page: bool = Field(True, description="serve the page at / of the HTTP server")
    http_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_origins)] = Field(
        (),
        description="origins of other pages that may open streams and make control calls, such as "
        "https://faces.example.com; separate several with commas",
    )
    max_http_connections: int = Field(1024, ge=8, le=60_000, description="HTTP connections")
    max_http_connections_per_address: int = Field(
        512, ge=1, le=60_000, description="HTTP connections from one address; a proxy has one address"
    )
    http_body_timeout_s: float = Field(
        60.0, gt=0, description="seconds in which the body of an HTTP request must arrive"
    )


class TlsSettings(Group):
    """Holds the files of TLS, for gRPC and HTTP."""

    tls_cert_file: Path | None = Field(None, description="PEM certificate chain; with tls_key_file turns TLS on")
    tls_key_file: Path | None = Field(None, description="PEM private key of the certificate")
    tls_client_ca_file: Path | None = Field(
        None, description="PEM authorities of client certificates; clients must then show one"
    )

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file must be given together")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        return self


def _split_names(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class ControlSettings(Group):
    """Holds the settings of control calls: calls that load, unload, promote or roll back versions."""

    control_listen: str = Field(
        "off", description="HOST:PORT or unix:PATH that accepts control calls, which change the models; off: none"
    )
    control_on_main: bool = Field(False, description="accept control calls on the addresses of the service too")
    control_token_file: Path | None = Field(None, description="file with the token that control calls must carry")
    control_names: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)] = Field(
        (),
        description="names of client certificates that may make control calls: alternative names, or else the "
        "common name; empty: any certificate; separate several with commas",
    )
    control_client_ca_file: Path | None = Field(
        None,
        description="PEM authorities of client certificates at control_listen, in place of tls_client_ca_file; "
        "callers there must show one",
    )
    control_insecure: bool = Field(
        False, description="accept control calls from other machines without TLS and without a token"
    )


class LogSettings(Group):
    """Holds the settings of logs."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest severity to log")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, json elsewhere"
    )
