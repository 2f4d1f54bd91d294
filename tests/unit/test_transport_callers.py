"""Tests that callers are identified by a verified certificate or their connection, never by their headers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId, CallerKind
from ferserve_server.services.call_tracker import Arrivals
from ferserve_server.services.callers import caller_of_context, caller_of_transport
from support.fake_clock import FakeClock


class Transport:
    def __init__(self, **facts: Any) -> None:
        self._facts = facts

    def get_extra_info(self, name: str) -> Any:
        return self._facts.get(name)


class Tls:
    def __init__(self, certificate: dict[str, Any] | None) -> None:
        self._certificate = certificate

    def getpeercert(self) -> dict[str, Any] | None:
        return self._certificate


PEER = ("10.0.0.1", 4000)
NAMED = {"subject": ((("commonName", "batch"),),), "subjectAltName": (("DNS", "b.example"), ("DNS", "a.example"))}
COMMON = {"subject": ((("organizationName", "x"),), (("commonName", "batch"),))}


@pytest.mark.parametrize(
    ("transport", "expected"),
    [
        (Transport(peername=PEER), CallerId(CallerKind.CONNECTION, "10.0.0.1:4000")),
        (Transport(peername=("::1", 4000, 0, 0)), CallerId(CallerKind.CONNECTION, "::1:4000")),
        (Transport(peername=PEER, ssl_object=Tls(None)), CallerId(CallerKind.CONNECTION, "10.0.0.1:4000")),
        (Transport(peername=PEER, ssl_object=Tls({})), CallerId(CallerKind.CONNECTION, "10.0.0.1:4000")),
        (Transport(peername=PEER, ssl_object=Tls(NAMED)), CallerId(CallerKind.CERTIFICATE, "a.example,b.example")),
        (Transport(peername=PEER, ssl_object=Tls(COMMON)), CallerId(CallerKind.CERTIFICATE, "batch")),
    ],
)
def test_a_connection_is_its_certificates_or_itself(transport: Any, expected: CallerId) -> None:
    assert caller_of_transport(transport) == expected


def test_connections_over_a_sockets_file_are_distinguished_and_each_stays_itself() -> None:
    first, second = Transport(peername=""), Transport(peername="")

    assert caller_of_transport(first) == caller_of_transport(first)
    assert caller_of_transport(first) != caller_of_transport(second)


class Context:
    def __init__(self, peer: str, identities: list[bytes] | None = None) -> None:
        self._peer = peer
        self._identities = identities

    def peer(self) -> str:
        return self._peer

    def peer_identities(self) -> list[bytes] | None:
        return self._identities


def test_a_call_of_grpcio_is_its_certificates_or_its_connections() -> None:
    assert caller_of_context(Context("ipv4:1.2.3.4:5")) == CallerId(CallerKind.CONNECTION, "ipv4:1.2.3.4:5")
    known = caller_of_context(Context("ipv4:1.2.3.4:5", [b"b.example", b"a.example"]))
    assert known == CallerId(CallerKind.CERTIFICATE, "a.example,b.example")
    assert caller_of_context(object()) == UNKNOWN_CALLER


async def test_what_is_read_in_one_iteration_of_the_event_loop_arrived_when_it_began() -> None:
    clock = FakeClock()
    arrivals = Arrivals(clock)
    began = clock.now()
    assert arrivals.latest_at() == began
    clock.advance(0.03)
    assert arrivals.latest_at() == began

    await asyncio.sleep(0)

    assert arrivals.latest_at() == began + 0.03
