"""Runs a bare grpc.aio server that stops as gRPC's examples do: reject new calls, and answer the others.

Usage: python -m chaos.plain_server HOST:PORT.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import grpc
import uvloop
from echo_server import SERVICE, unary

GRACE_S = 30.0


async def serve(address: str) -> None:
    """Serves until SIGTERM."""
    server = grpc.aio.server()
    handlers: dict[str, Any] = {"ClassifyFaces": grpc.unary_unary_rpc_method_handler(unary)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if not server.add_insecure_port(address):
        sys.exit(f"cannot listen on {address}")
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(GRACE_S)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
