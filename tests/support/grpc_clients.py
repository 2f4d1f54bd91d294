"""Runs independent gRPC clients: their HTTP/2 is not that of gRPC's core, which Python and C++ share."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.conformance import CLIENTS, INSTALL_S, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

SCENARIO_S: Final = 90
GO_PATH: Final = Path("/usr/share/gocode")
"""Where Debian's packages put Go's libraries."""


@dataclass(frozen=True)
class GrpcClient:
    """A program that takes an address and a scenario, and prints what came of it as JSON.

    Attributes:
        command: What runs it.
        env: Variables that it needs.
    """

    command: tuple[str, ...]
    env: Mapping[str, str]

    def run(self, address: str, scenario: str, authority: Path | None = None) -> Any:
        """Plays a scenario, over TLS if there is an `authority` to trust, and returns what it printed last."""
        done = subprocess.run(
            [*self.command, address, scenario],
            env=self._environ(authority),
            capture_output=True,
            text=True,
            check=False,
            timeout=SCENARIO_S,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def start(self, address: str, scenario: str) -> subprocess.Popen[str]:
        """Begins a scenario; its output is to be read, and its end awaited."""
        return subprocess.Popen(
            [*self.command, address, scenario], env=self._environ(None), stdout=subprocess.PIPE, text=True
        )

    def _environ(self, authority: Path | None) -> dict[str, str]:
        trusted = {"CA_FILE": str(authority)} if authority else {}
        proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
        return {name: value for name, value in os.environ.items() if name not in proxies} | {**self.env, **trusted}


def grpc_js() -> GrpcClient:
    """`@grpc/grpc-js` on Node"s own HTTP/2 (nghttp2), installed if need be. Skips the test if there is no Node."""
    return node_client(CLIENTS / "grpc_js" / "client.js")


def node_client(script: Path) -> GrpcClient:
    """A script of Node beside the packages of `clients/package.json`. Skips the test if there is no Node."""
    node, npm = found("node"), found("npm")
    lock = CLIENTS / "package-lock.json"
    folder = ROOT / ".tools" / "node" / "clients"
    stamp = folder / "made-from"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for part in ("package.json", "package-lock.json"):
            shutil.copy(CLIENTS / part, folder)
        make([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
        stamp.write_text(wanted)
    return GrpcClient((node, str(script)), {"NODE_PATH": str(folder / "node_modules")})


def grpc_go(folder: Path = CLIENTS / "grpc_go") -> GrpcClient:
    """A program of `grpc-go`, as Debian packages it. Skips the test where it is not installed."""
    go = found("go")
    if not (GO_PATH / "src/google.golang.org/grpc").is_dir():
        pytest.skip("grpc-go is not installed: make client-tools")
    tools = ROOT / ".tools" / "go"
    tools.mkdir(parents=True, exist_ok=True)
    made = tools / folder.relative_to(CLIENTS).as_posix().replace("/", "-")
    env = {"GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOCACHE": str(tools / "cache"), "GOFLAGS": ""}
    make([go, "build", "-o", str(made), "."], folder, env)
    return GrpcClient((str(made),), {})


def found(program: str) -> str:
    """The path of a program. Skips the test if there is none."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"there is no {program} here: make client-tools")
    return path


def make(command: list[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
    """Runs a command in a folder. Skips the test if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_S,
    )
    if done.returncode != 0:
        pytest.skip(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-500:]}")
