"""Defines the servers that the tests of protocols share."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import pytest

from support.interop import interop_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="package")
def interop_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Gives the address of the test service on a server, native or grpcio; each starts once."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def address(grpc_server: str) -> str:
            folder = tmp_path_factory.mktemp("interop")
            return stack.enter_context(interop_server(grpc_server, folder))[0]

        yield address
