"""Runs the test service of gRPC's interoperability tests, and the clients of its cases."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.conformance import CLIENTS, INSTALL_S, ROOT, environment
from support.grpc_clients import GrpcClient, found, grpc_go, node_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTEROP: Final = CLIENTS / "interop"

UNCOMPRESSED: Final = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "custom_metadata",
)
CASES: Final = (*UNCOMPRESSED, "client_compressed_unary", "client_compressed_streaming")
"""By their names at https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md."""


@contextlib.contextmanager
def interop_server(grpc_server: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Runs the service on a server until the block is left; gives its address, and its descriptors."""
    descriptors = describe(folder)
    command = [sys.executable, "-m", "support.interop_server", grpc_server, str(descriptors)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'benchmarks'}"}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}", descriptors
            process.stdin.close()
            assert process.wait(20) == 0
        finally:
            process.kill()


def describe(folder: Path) -> Path:
    """Compiles the service's file into descriptors."""
    made = folder / "interop.binpb"
    arguments = ("-I", str(INTEROP), f"--descriptor_set_out={made}", "interop.proto")
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True, timeout=INSTALL_S)
    return made


def _grpc_core() -> GrpcClient:
    return GrpcClient((sys.executable, str(INTEROP / "grpc_core.py")), {})


def _grpclib() -> GrpcClient:
    return GrpcClient((str(environment("grpclib") / "bin/python"), str(INTEROP / "pure_python.py")), {})


def _grpc_cpp() -> GrpcClient:
    """Debian's gRPC for C++. Skips the test where it is not installed."""
    plugin, config = found("grpc_cpp_plugin"), found("pkg-config")
    compiler, protoc = found("g++"), Path("/usr/bin/protoc")  # of the plugin's version
    folder = ROOT / ".tools" / "cpp"
    folder.mkdir(parents=True, exist_ok=True)
    made, stamp = folder / "interop", folder / "made-from"
    sources = INTEROP / "interop.proto", INTEROP / "cpp/main.cc"
    wanted = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if not made.is_file() or not stamp.is_file() or stamp.read_text() != wanted:
        libraries = subprocess.run(
            [config, "--libs", "grpc++", "protobuf"], capture_output=True, text=True, check=False
        )
        if libraries.returncode or not protoc.is_file():
            pytest.skip("gRPC for C++ is not installed: make client-tools")
        outputs = ("--cpp_out=.", "--grpc_out=.", f"--plugin=protoc-gen-grpc={plugin}")
        subprocess.run(
            [protoc, "-I", INTEROP, *outputs, "interop.proto"], cwd=folder, check=True, timeout=INSTALL_S
        )
        parts = (sources[1], "interop.pb.cc", "interop.grpc.pb.cc")
        build = [compiler, "-std=c++17", "-I.", *parts, "-o", made, *libraries.stdout.split()]
        subprocess.run(build, cwd=folder, check=True, timeout=INSTALL_S)
        stamp.write_text(wanted)
    return GrpcClient((str(made),), {})


MAKERS: Final[dict[str, tuple[Callable[[], GrpcClient], tuple[str, ...]]]] = {
    "grpcio": (_grpc_core, CASES),
    "grpclib": (_grpclib, UNCOMPRESSED),  # it has no compression
    "grpc-js": (lambda: node_client(INTEROP / "grpc_js.js"), CASES),
    "connect-node": (lambda: node_client(INTEROP / "connect_node.js"), CASES),
    "grpc-go": (lambda: grpc_go(INTEROP / "go"), CASES),
    "grpc-cpp": (_grpc_cpp, CASES),
}
"""The clients, and the cases that each has."""


def results(maker: str, address: str, descriptors: Path) -> dict[str, Any]:
    """Runs all cases of a client: what was wrong with each, "" for nothing."""
    ran: dict[str, Any] = MAKERS[maker][0]().run(address, str(descriptors))
    return ran
