"""Tests classes of weakness that no other test covers (faults, item 30; docs/weaknesses.md)."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pytest

from ferserve_client import EmotionClient, FerserveError

if TYPE_CHECKING:
    from support.server_process import ServerProcess

SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def _raw(server: ServerProcess, request: bytes) -> bytes:
    """Sends bytes, and returns all that comes until the server closes the connection."""
    where = urlsplit(server.http_url)
    assert where.hostname is not None
    with socket.create_connection((where.hostname, where.port or 0), timeout=60) as peer:
        peer.sendall(request)
        received = b""
        while part := peer.recv(65_536):
            received += part
    return received


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 33\r\n\r\n",
        b"Content-Length: +0\r\n\r\n",
        b"Content-Length: 0x0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n",
        b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_request_whose_end_two_parsers_may_see_differently_is_rejected_with_all_behind_it(
    running_server: ServerProcess, headers: bytes
) -> None:
    answer = _raw(running_server, b"POST /v1/analyze HTTP/1.1\r\nHost: x\r\n" + headers + SMUGGLED)
    assert _status(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/app.js/../../../../../../etc/passwd",
        "/page//etc/passwd",
        "/v2/models/..%2f..%2fetc/ready",
        "//elsewhere.example/",
        "/v1/models/%00",
    ],
)
def test_a_path_leads_to_no_file_and_to_no_other_place(running_server: ServerProcess, path: str) -> None:
    answer = _raw(running_server, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert _status(answer) in {400, 404}
    assert b"root:" not in answer
    assert b"\r\nlocation:" not in answer.lower()


@pytest.mark.parametrize("name", ["../../etc", "/etc", "fer-nano/../fer-nano", ".", "a" * 100_000, "fer-nano\0"])
def test_a_model_name_is_no_path(running_server: ServerProcess, name: str) -> None:
    with EmotionClient(running_server.address) as client, pytest.raises((FerserveError, ValueError)):
        client.classify(np.zeros((1, 48, 48), np.uint8), model=name)


def test_nothing_that_a_caller_says_makes_a_line_of_the_log(running_server: ServerProcess) -> None:
    forged = '{"event": "forged", "level": "info"}'
    with EmotionClient(running_server.address) as client, pytest.raises(FerserveError):
        client.analyze([f"\n{forged}\n".encode()], model=f"x\n{forged}\n")
    text = forged.replace(" ", "%20").replace('"', "%22")
    _raw(
        running_server,
        f"GET /%0a{text}%0a HTTP/1.1\r\nHost: x\r\nUser-Agent: {forged}\r\nConnection: close\r\n\r\n".encode(),
    )
    _raw(running_server, b"GET / HTTP/1.1\r\nHost: x\x1b[31m\r\nConnection: close\r\n\r\n")
    for line in list(running_server.log):
        fields = json.loads(line)
        assert fields["event"] != "forged"
        assert "\x1b" not in line


def test_an_address_in_place_of_a_picture_is_never_fetched(running_server: ServerProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/picture.jpg"
        with EmotionClient(running_server.address) as client:
            assert client.analyze([address.encode()])[0].error is not None
        body = json.dumps({"url": address, "image": address}).encode()
        for headers in (b"Content-Type: application/json\r\n", b""):
            head = b"POST /v1/analyze HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers
            answer = _raw(running_server, head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert _status(answer) in {400, 415, 422}
        with pytest.raises(TimeoutError):
            listener.accept()
