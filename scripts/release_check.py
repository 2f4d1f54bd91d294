"""Builds the distributions and tries them without the checkout.

Builds a wheel and an sdist of every distribution from the committed files into dist/, installs `ferserve[onnx]`
from them into an empty environment, starts the server in an empty folder, and analyses a picture with the client.
Takes other packages from the index that pip is set up for. Run with `make release-check`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
DIST: Final = ROOT / "dist"
PROJECTS: Final = ("proto", "client", "server", "training", "model_repo", "packaging/ferserve", "vision")
"""Folders with a pyproject.toml; those that a checkout lacks are left out."""

PICTURE: Final = ROOT / "tests" / "media" / "astronaut.jpg"
START_TIMEOUT_S: Final = 120.0


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Runs a command and returns its output; prints the output and raises if the command fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        done.check_returncode()
    return done.stdout


def build(work: Path) -> None:
    """Builds wheel and sdist of every project from the committed files."""
    source = work / "source"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)
    venv.create(work / "builder", with_pip=True)
    python = work / "builder" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "build>=1.2")
    shutil.rmtree(DIST, ignore_errors=True)
    for project in PROJECTS:
        if (source / project / "pyproject.toml").exists():
            run(python, "-m", "build", "--outdir", DIST, source / project)


def install(work: Path, extra: str) -> Path:
    """Installs `ferserve[extra]` from dist/ into an empty environment; returns its folder of commands."""
    venv.create(work / "user", with_pip=True)
    commands = work / "user" / "bin"
    run(
        commands / "python",
        *("-m", "pip", "install", "-q", "--disable-pip-version-check", "--find-links", DIST, f"ferserve[{extra}]"),
    )
    return commands


def serve_once(commands: Path, work: Path) -> None:
    """Starts the installed server in an empty folder and analyses a picture with the installed client.

    Raises:
        RuntimeError: The server does not start, or the answer names no expression.
    """
    folder = work / "empty"
    folder.mkdir()
    log = work / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(commands / "ferserve-server"), "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [*command, "--log-format", "json"], cwd=folder, env=environment, stdout=stream, stderr=stream
        )
        try:
            address = f"127.0.0.1:{_port(log, server)}"
            answer = _analyze(commands, address)
        finally:
            server.terminate()
            code = server.wait(60)
    if code or '"emotion"' not in answer:
        raise RuntimeError(f"exit {code}, answer {answer!r}, log:\n{log.read_text()[-3000:]}")
    print(answer.strip())


def _analyze(commands: Path, address: str) -> str:
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return run(commands / "ferserve", "analyze", PICTURE, "--server", address, "--json")
        except subprocess.CalledProcessError:
            if time.monotonic() > end:
                raise
            time.sleep(1.0)


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r'"port": ?(\d+)', log.read_text()):
            return int(found.group(1))
        time.sleep(0.1)
    raise RuntimeError(f"The server did not start:\n{log.read_text()[-3000:]}")


def main() -> None:
    """Builds, installs and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extra", default="onnx", help="the extra of ferserve to install")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        build(work)
        print(*sorted(path.name for path in DIST.iterdir()), sep="\n")
        serve_once(install(work, options.extra), work)


if __name__ == "__main__":
    main()
