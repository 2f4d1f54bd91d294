"""Tests that no address and no port gets all connections, and descriptors remain for the server's own use."""

from __future__ import annotations

import resource

import pytest

from ferserve_server.runtime.connection_limits import (
    DESCRIPTORS_RESERVED,
    ConnectionLimiter,
    connection_budget,
    raise_descriptor_limit,
)


def test_connections_are_bounded_in_all_and_by_address() -> None:
    limiter = ConnectionLimiter(total=5, per_address=2)
    slots = [limiter.enter("10.0.0.1"), limiter.enter("10.0.0.1")]
    assert None not in slots
    assert limiter.enter("10.0.0.1") is None
    assert all(limiter.enter(f"10.0.0.{number}") for number in (2, 3, 4))
    assert limiter.enter("10.0.0.9") is None
    assert (limiter.open_count, limiter.rejected_count) == (5, 2)
    assert slots[0] is not None
    slots[0].leave()
    slots[0].leave()  # a connection that fails while it begins may be let go by two
    assert limiter.open_count == 4
    assert limiter.enter("10.0.0.1") is not None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("x:y", "x:z", False),
    ],
)
def test_one_address_is_a_network_of_64_bits_of_ipv6(one: str, other: str, same: bool) -> None:
    limiter = ConnectionLimiter(total=9, per_address=1)
    assert limiter.enter(one) is not None
    assert (limiter.enter(other) is None) is same


def test_callers_on_one_socket_file_are_bounded_in_all_only() -> None:
    limiter = ConnectionLimiter(total=3, per_address=1)
    assert [limiter.enter("") is not None for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("wanted", "descriptors", "budget"),
    [(1024, 65_536, 1024), (1024, 1024, (1024 - DESCRIPTORS_RESERVED) // 2), (1024, 100, 8), (16, 1024, 16)],
)
def test_connections_leave_descriptors_in_reserve(wanted: int, descriptors: int, budget: int) -> None:
    assert connection_budget(wanted, descriptors) == budget


def test_the_soft_limit_is_raised_as_far_as_the_hard_one_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        limit = raise_descriptor_limit()
        assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 512
        assert raise_descriptor_limit() == limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
