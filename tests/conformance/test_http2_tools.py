"""Tests both servers with Debian's curl, nghttp and h2load, none of which knows gRPC."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.grpc_clients import found
from support.http2_frames import message_bytes
from support.interop import interop_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMPTY_CALL = "/grpc.testing.TestService/EmptyCall"
INPUT_CALL = "/grpc.testing.TestService/StreamingInputCall"
GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")

DEVIATIONS = {
    "test_curl_is_reported_by_http_what_is_no_call": "grpcio answers with HTTP status 200, or resets the stream",
    "test_nghttp_may_pad_its_frames": "grpcio cannot read HEADERS that are padded and have a priority",
}
"""What grpcio's server does otherwise."""


@pytest.fixture(scope="module", params=["native", pytest.param("grpcio", marks=pytest.mark.conformance)])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with interop_server(request.param, tmp_path_factory.mktemp("interop")) as (address, _):
        yield f"http://{address}"


@pytest.fixture
def grpcio_deviates(request: pytest.FixtureRequest, url: str) -> None:
    """Expects a test to fail at grpcio's server."""
    del url
    if "grpcio" in request.node.name:
        request.node.add_marker(pytest.mark.xfail(reason=DEVIATIONS[request.node.originalname], strict=True))


@pytest.fixture
def message(tmp_path: Path) -> str:
    """A file of an empty message."""
    path = tmp_path / "message"
    path.write_bytes(message_bytes(b""))
    return str(path)


def _output(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [found(program), *arguments], capture_output=True, text=True, errors="replace", check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def _curl(*arguments: str) -> str:
    """Headers and trailers of an answer."""
    return _output(
        "curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "-D", "-", "-o", "/dev/null", *arguments
    )


def _nghttp(url: str, message: str, *options: str) -> str:
    """Frames of an exchange."""
    return _output("nghttp", "-nv", *GRPC, "-H", ":method: POST", "-d", message, *options, url + EMPTY_CALL)


def test_curl_gets_an_answer_and_its_trailers(url: str, message: str) -> None:
    reported = _curl(*GRPC, "--data-binary", f"@{message}", url + EMPTY_CALL)
    assert "HTTP/2 200" in reported
    assert "grpc-status: 0" in reported


def test_curl_sends_a_message_longer_than_a_window(url: str, tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(message_bytes(b"\x0a\xc5\x9a\x4c" + b"\x12\xc1\x9a\x4c" + bytes(1248577)))
    reported = _curl(*GRPC, "--data-binary", f"@{path}", url + INPUT_CALL)
    assert "grpc-status: 0" in reported, reported


@pytest.mark.parametrize(
    ("arguments", "status"), [(GRPC, "405"), (("-X", "POST", "-H", "content-type: application/json"), "415")]
)
@pytest.mark.usefixtures("grpcio_deviates")
def test_curl_is_reported_by_http_what_is_no_call(url: str, arguments: tuple[str, ...], status: str) -> None:
    reported = _curl(*arguments, url + EMPTY_CALL)
    assert f"HTTP/2 {status}" in reported


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-m", "20"),
        ("--continuation",),
        ("-w", "1", "-W", "16"),
        ("--header-table-size=0", "--encoder-header-table-size=0"),
        ("--expect-continue",),
        ("--no-dep",),
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_nghttp_gets_answers_with_its_options(url: str, message: str, options: tuple[str, ...]) -> None:
    reported = _nghttp(url, message, *options)
    assert reported.count("grpc-status: 0") == (20 if "-m" in options else 1), reported[-2000:]


@pytest.mark.usefixtures("grpcio_deviates")
def test_nghttp_may_pad_its_frames(url: str, message: str) -> None:
    assert "grpc-status: 0" in _nghttp(url, message, "--padding=200")


@pytest.mark.parametrize(
    "options", [("-m", "1"), ("-m", "100"), ("-m", "10", "-w", "10", "-W", "16")], ids=" ".join
)
def test_h2load_counts_no_failure(url: str, message: str, options: tuple[str, ...]) -> None:
    reported = _output("h2load", "-n", "1000", "-c", "4", *options, *GRPC, "-d", message, url + EMPTY_CALL)
    assert re.search(r"1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout", reported), reported
    assert "status codes: 1000 2xx" in reported
