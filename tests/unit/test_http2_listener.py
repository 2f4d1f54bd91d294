"""Tests that connections are accepted while others come and go, and wait when the system lacks resources."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

import pytest

from ferserve_server.http2.registry import ConnectionLimits, ConnectionRegistry
from ferserve_server.runtime.addresses import ListenError, bound, port_of
from ferserve_server.runtime.listener import accepting
from support.certificates import make_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMITS = ConnectionLimits(10, 10, 0.0, 1000, 1000)


@contextlib.contextmanager
def _no_file_descriptor_left() -> Iterator[None]:
    """This process can open nothing within the block."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)


@pytest.fixture
def taken() -> Iterator[list[socket.socket]]:
    found: list[socket.socket] = []
    yield found
    for each in found:
        each.close()


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event here
            await asyncio.sleep(0.01)


async def test_more_than_are_accepted_in_an_iteration_are_all_accepted_and_do_not_block(
    taken: list[socket.socket],
) -> None:
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(bound("127.0.0.1:0", "--listen"))
        stack.enter_context(accepting(sockets, taken.append))
        address = ("127.0.0.1", port_of(sockets))
        callers = [stack.enter_context(socket.create_connection(address)) for _ in range(100)]
        await _until(lambda: len(taken) == 100)
        assert {each.getpeername() for each in taken} == {each.getsockname() for each in callers}
        assert not any(each.getblocking() for each in taken)


async def test_without_a_file_descriptor_connections_wait_and_are_not_lost(
    taken: list[socket.socket],
) -> None:
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(bound("127.0.0.1:0", "--listen"))
        stack.enter_context(accepting(sockets, taken.append))
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(sockets))))
        with _no_file_descriptor_left():
            await asyncio.sleep(0.05)
            assert taken == []
        await _until(lambda: len(taken) == 3)


async def test_one_who_has_left_before_is_no_obstacle_for_the_next(taken: list[socket.socket]) -> None:
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(bound("127.0.0.1:0", "--listen"))
        stack.enter_context(accepting(sockets, taken.append))
        address = ("127.0.0.1", port_of(sockets))
        with socket.create_connection(address) as impatient:
            impatient.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # a reset at the end
        caller = stack.enter_context(socket.create_connection(address))
        await _until(lambda: caller.getsockname() in [_peer_of(each) for each in taken])


def _peer_of(connected: socket.socket) -> object:
    try:
        return connected.getpeername()
    except OSError:
        return None


async def test_after_the_end_nobody_is_accepted_and_the_address_is_free(
    taken: list[socket.socket], tmp_path: Path
) -> None:
    for address in ("127.0.0.1:0", f"unix:{tmp_path}/x.sock"):
        with bound(address, "--listen") as sockets:
            name, family = sockets[0].getsockname(), sockets[0].family
            with accepting(sockets, taken.append):
                pass
        with socket.socket(family) as late, pytest.raises(OSError, match=r"Connection refused|No such file"):
            late.connect(name)
    assert taken == []


async def test_an_address_that_somebody_else_came_to_listen_on_is_reported(taken: list[socket.socket]) -> None:
    """Linux lets two bind a port with SO_REUSEADDR as long as none of them listens."""
    with bound("127.0.0.1:0", "--listen") as sockets, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port_of(sockets)))
        other.listen()
        with pytest.raises(ListenError, match="--listen"), accepting(sockets, taken.append):
            pass


async def test_a_connection_that_comes_when_all_have_gone_is_closed() -> None:
    connections = ConnectionRegistry(lambda *_, **__: pytest.fail("no stream is made"), LIMITS, None, lambda: 0.0)
    await connections.close()
    caller, accepted = socket.socketpair()
    with caller:
        connections.accept(accepted)
        assert caller.recv(1) == b""
    assert connections.count == 0


async def test_a_connection_whose_establishment_never_began_is_closed() -> None:
    connections = ConnectionRegistry(lambda *_, **__: pytest.fail("no stream is made"), LIMITS, None, lambda: 0.0)
    caller, accepted = socket.socketpair()
    with caller:
        connections.accept(accepted)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await _until(lambda: connections.count == 0)
        assert caller.recv(1) == b""


async def test_a_peer_that_never_ends_its_tls_is_gone_when_the_server_closes(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.set_alpn_protocols(["h2"])
    trusting = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    trusting.set_alpn_protocols(["h2"])
    connections = ConnectionRegistry(
        lambda *_, **__: pytest.fail("no stream is made"), LIMITS, lambda: context, lambda: 0.0
    )
    caller, accepted = socket.socketpair()
    accepted.setblocking(False)
    connections.accept(accepted)
    with await asyncio.to_thread(trusting.wrap_socket, caller, server_hostname="localhost"):
        await _until(lambda: connections._established)
        await connections.close()
        assert connections.count == 0
        assert accepted.fileno() == -1
