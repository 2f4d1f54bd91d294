"""Tests addresses, load balancing and deadlines of a channel."""

from __future__ import annotations

import json
import math

import pytest

from ferserve_client import ChannelOptions
from ferserve_client.channel import channel_arguments, grpc_target, is_loopback, service_config, targets_of
from ferserve_client.deadlines import grpc_timeout


@pytest.mark.parametrize(
    ("target", "loopback"),
    [
        ("localhost:50051", True),
        ("127.0.0.1:50051", True),
        ("127.1.2.3:1", True),
        ("[::1]:50051", True),
        ("ipv6:[::1]:50051", True),
        ("dns:///localhost:50051", True),
        ("unix:/run/ferserve.sock", True),
        ("faces.localhost:80", True),
        ("10.0.0.1:50051", False),
        ("localhost.example.com:1", False),
        ("server:50051", False),
        ("[2001:db8::1]:50051", False),
    ],
)
def test_a_loopback_address_is_known_in_every_spelling(target: str, loopback: bool) -> None:
    assert is_loopback(target) is loopback


def test_loopback_calls_pass_every_proxy_by() -> None:
    assert ("grpc.enable_http_proxy", 0) in channel_arguments(ChannelOptions(), None, "localhost:50051")
    assert "grpc.enable_http_proxy" not in dict(channel_arguments(ChannelOptions(), None, "server:50051"))


def test_several_targets_come_as_a_list_or_with_commas() -> None:
    assert targets_of("a:1, b:2") == targets_of(["a:1", "b:2"]) == ["a:1", "b:2"]
    assert targets_of("ipv4:10.0.0.1:1,10.0.0.2:2") == ["ipv4:10.0.0.1:1,10.0.0.2:2"]
    with pytest.raises(ValueError, match="no server is named"):
        targets_of(" , ")


def test_one_target_stays_as_it_was_typed_and_several_become_addresses() -> None:
    assert grpc_target("server:50051") == "server:50051"
    assert grpc_target("127.0.0.1:1,127.0.0.2:2") == "ipv4:127.0.0.1:1,127.0.0.2:2"
    assert grpc_target(["[::1]:1", "127.0.0.1:2"]) == "ipv6:[::1]:1,[::ffff:127.0.0.1]:2"
    with pytest.raises(ValueError, match="no port"):
        grpc_target("127.0.0.1:1,127.0.0.2")


def test_several_targets_rotate_and_are_asked_for_their_health() -> None:
    config = service_config(ChannelOptions(), several=True)
    assert config is not None
    assert json.loads(config) == {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
    }
    assert service_config(ChannelOptions(), several=False) is None
    assert service_config(ChannelOptions(load_balancing="pick_first"), several=True) is None
    assert "health" not in (service_config(ChannelOptions(health_checks=False), several=True) or "health")
    assert service_config(ChannelOptions(service_config="{}"), several=True) == "{}"


@pytest.mark.parametrize("timeout_s", [math.inf, 1e10, 9e9, 1.0001e8])
def test_a_deadline_beyond_all_clocks_is_none(timeout_s: float) -> None:
    assert grpc_timeout(timeout_s) is None


@pytest.mark.parametrize("timeout_s", [None, 0.5, 86_400.0, 1e8])
def test_other_deadlines_stay(timeout_s: float | None) -> None:
    assert grpc_timeout(timeout_s) == timeout_s
