"""Installs independent clients, each in an environment of its own under .tools/venvs, kept between runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "tests" / "conformance" / "clients"
INSTALL_S = 170


def environment(name: str, *, beside_ours: bool = False) -> Path:
    """The folder of an environment that holds what requirements/conformance-NAME.lock says; makes it if needed.

    Skips the test if there is no package index to install from.

    Args:
        name: Name of the lock file.
        beside_ours: Whether what is installed here can be imported there too.
    """
    lock = ROOT / "requirements" / f"conformance-{name}.lock"
    wanted = f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {sys.version}"
    folder = ROOT / ".tools" / "venvs" / name
    stamp = folder / "made-from"
    if stamp.is_file() and stamp.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=INSTALL_S)
    installed = subprocess.run(
        # The lock is complete; what its packages say of each other's versions is not always so.
        [folder / "bin" / "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", lock],
        env=_environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_S,
    )
    if installed.returncode != 0:
        pytest.skip(f"{lock.name} cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    if beside_ours:
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "ours.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    stamp.write_text(wanted)
    return folder


def run_client(folder: Path, script: str, *arguments: str, with_server: bool = False) -> Any:
    """Runs a script of `clients/` in an environment, and returns the JSON that it prints last.

    Args:
        folder: The environment.
        script: Name of the script.
        arguments: What it gets.
        with_server: Whether it can import the server's package beside the client's.
    """
    done = subprocess.run(
        [folder / "bin" / "python", CLIENTS / script, *arguments],
        env=_environ(PYTHONPATH=str(ROOT / "server" / "src")) if with_server else _environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def perf_analyzer(*arguments: str, seconds: float = 90) -> str:
    """Runs NVIDIA's load generator until it has its numbers, and returns what it printed.

    Skips the test where its binary cannot run: it is made for x86-64 Linux.
    """
    folder = environment("triton-old")
    fetched = subprocess.run(
        [ROOT / "deploy" / "fetch_libb64.sh"], capture_output=True, text=True, check=False, timeout=INSTALL_S
    )
    if fetched.returncode != 0:
        pytest.skip(fetched.stderr.strip())
    libraries = [ROOT / ".tools" / "lib", *folder.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib")]
    done = subprocess.run(
        [folder / "bin" / "perf_analyzer", *arguments],
        env=_environ(LD_LIBRARY_PATH=os.pathsep.join(map(str, libraries))),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environ(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "LD_LIBRARY_PATH"}}
    return kept | changes
