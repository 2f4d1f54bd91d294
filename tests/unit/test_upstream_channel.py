"""Tests the addresses of a model tier, and the balancing and retries of calls to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ferserve_server.upstream.channel import UpstreamFilesError, UpstreamTls, channel_options, service_config
from ferserve_server.upstream.target import parse_target

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("models:50051", "dns:///models:50051"),
        ("models.example.org:1", "dns:///models.example.org:1"),
        ("dns:///models:50051", "dns:///models:50051"),
        ("unix:/run/models.sock", "unix:/run/models.sock"),
        ("10.0.0.7:50051", "ipv4:10.0.0.7:50051"),
        ("10.0.0.7:50051, 10.0.0.8:50052", "ipv4:10.0.0.7:50051,10.0.0.8:50052"),
        ("[::1]:50051", "ipv6:[::1]:50051"),
        ("[::1]:1,[2001:db8::2]:2", "ipv6:[::1]:1,[2001:db8::2]:2"),
    ],
)
def test_servers_are_named_by_name_by_addresses_or_as_grpc_does(text: str, target: str) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "models",
        "models:",
        ":50051",
        "models:0",
        "models:65536",
        "models:port",
        "http://models:1",
        "a b:1",
        "10.0.0.7:1,",
    ],
)
def test_what_is_no_address_is_rejected_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT; write such as"):
        parse_target(text)


@pytest.mark.parametrize("text", ["one:1,other:2", "10.0.0.7:1,[::1]:2", "10.0.0.7:1,other:2"])
def test_several_servers_are_named_by_addresses_of_one_kind(text: str) -> None:
    with pytest.raises(ValueError, match="all of IPv4 or all of IPv6"):
        parse_target(text)


def test_only_what_nobody_has_worked_on_is_tried_again_and_not_indefinitely() -> None:
    config = service_config(3)
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"] == {"serviceName": "ferserve.v1.EmotionService"}
    (method,) = config["methodConfig"]
    assert method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert method["retryPolicy"]["maxAttempts"] == 3
    assert "hedgingPolicy" not in method


def test_one_try_is_one_try() -> None:
    assert "methodConfig" not in service_config(1)
    options = dict(channel_options(1))
    assert json.loads(options["grpc.service_config"]) == service_config(1)


def test_a_file_for_tls_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UpstreamFilesError, match=r"ca\.pem cannot be read: No such file"):
        UpstreamTls(tmp_path / "ca.pem").credentials()
