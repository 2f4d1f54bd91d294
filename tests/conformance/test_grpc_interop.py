"""Tests gRPC's interoperability cases with clients of six makes at both servers."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from support.interop import MAKERS, interop_server, results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPILED = ("grpc-go", "grpc-cpp")
"""Half a minute each to build."""


@pytest.fixture(scope="module", params=["native", pytest.param("grpcio", marks=pytest.mark.conformance)])
def ran(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Any]]:
    """Gives the results of a client at one of the servers; each client runs once."""
    with interop_server(request.param, tmp_path_factory.mktemp("interop")) as (address, descriptors):
        yield functools.cache(lambda maker: results(maker, address, descriptors))


@pytest.mark.parametrize(
    ("maker", "case"),
    [
        pytest.param(maker, case, marks=pytest.mark.conformance if maker in COMPILED else (), id=f"{maker}-{case}")
        for maker, (_, cases) in MAKERS.items()
        for case in cases
    ],
)
def test_a_case_passes(ran: Callable[[str], Any], maker: str, case: str) -> None:
    assert ran(maker)[case] == ""
