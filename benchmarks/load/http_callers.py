"""Sends calls over HTTP/1.1 on one bare connection per caller, kept open where the server keeps it open."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from load.measurements import Measurements
    from load.plan import Part


def request_bytes(address: str, part: Part) -> bytes:
    """Returns the whole request, head and body."""
    head = {
        "Host": address,
        "Content-Type": part.content_type,
        "Content-Length": str(len(part.message)),
        **part.headers,
    }
    lines = [f"POST {part.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + part.message


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Reads one response.

    Raises:
        ConnectionError: The connection ended before it was complete.
        ValueError: It is not HTTP.

    Returns:
        Its status, its body, and whether the connection stays open.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status = head[0].split(" ", 2)[:2]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if "content-length" in fields:
            body = await reader.readexactly(int(fields["content-length"]))
        elif fields.get("transfer-encoding", "").lower() == "chunked":
            body = await _read_chunks(reader)
        else:
            return int(status), await reader.read(), False
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("the server closed the connection within a response") from error
    closes = fields.get("connection", "").lower() == "close" or version == "HTTP/1.0"
    return int(status), body, not closes


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return body


async def post_once(address: str, part: Part, timeout_s: float = 60.0) -> tuple[int, bytes]:
    """Sends one request on a connection of its own, and returns status and body."""
    async with asyncio.timeout(timeout_s):
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request_bytes(address, part))
            status, body, _ = await read_response(reader)
            return status, body
        finally:
            writer.close()


async def call_http(address: str, part: Part, measurements: Measurements) -> None:
    """Runs `callers` that each send their next request when the last is answered; until cancelled."""
    host, _, port = address.rpartition(":")
    request = request_bytes(address, part)

    async def caller() -> None:
        writer = None
        try:
            while True:
                sent_s = time.perf_counter()  # a connection that must be made again counts
                try:
                    if writer is None:
                        reader, writer = await asyncio.open_connection(host, int(port))
                    writer.write(request)
                    async with asyncio.timeout(part.timeout_s):
                        status, _, keep = await read_response(reader)
                    code = "" if status == 200 else f"HTTP {status}"
                except (OSError, TimeoutError) as error:
                    code, keep = type(error).__name__, False
                measurements.record(sent_s, sent_s, time.perf_counter(), code)
                if not keep and writer is not None:
                    writer.close()
                    writer = None
                if code:
                    await asyncio.sleep(0.01)
        finally:
            if writer is not None:
                writer.close()

    await asyncio.gather(*(caller() for _ in range(part.callers)))
