"""Builds the distributions and tries them without the checkout.

Builds an sdist of every distribution from the committed files into dist/, and a wheel from each sdist. Installs
`ferserve[onnx]` from them into an empty environment, starts the server in an empty folder, and analyses a picture
with the client. Where there is uv, `uvx --from 'ferserve[onnx]' ferserve-server` must answer within a minute, from
an empty cache and without TensorFlow. Takes other packages from the index that pip is set up for. Run with
`make release-check`.
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
COMMANDS: Final = ("ferserve", "ferserve-server")
START_TIMEOUT_S: Final = 120.0
UVX_LIMIT_S: Final = 60.0
"""Time in which `uvx` installs the server and the server answers; 29 s were measured on 2 cores."""


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
    # The projects' backends, once for all instead of in an environment for each.
    tools = ("build>=1.2", "setuptools>=77", "hatchling>=1.25")
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *tools)
    shutil.rmtree(DIST, ignore_errors=True)
    for project in PROJECTS:
        if (source / project / "pyproject.toml").exists():
            run(python, "-m", "build", "--no-isolation", "--outdir", DIST, source / project)


def install(work: Path, extra: str) -> Path:
    """Installs `ferserve[extra]` from dist/ into an empty environment; returns its folder of commands."""
    venv.create(work / "user", with_pip=True)
    commands = work / "user" / "bin"
    run(
        commands / "python",
        *("-m", "pip", "install", "-q", "--disable-pip-version-check", "--find-links", DIST, f"ferserve[{extra}]"),
    )
    return commands


def check_commands(commands: Path, extra: str) -> None:
    """Asks every command for its version, and looks for TensorFlow where the extra should not bring it.

    Raises:
        RuntimeError: A version differs from that of the wheel, or TensorFlow is there.
    """
    for name in COMMANDS:
        printed = run(commands / name, "--version").strip()
        if f"ferserve-{printed}-" not in "".join(path.name for path in DIST.glob("ferserve-*.whl")):
            raise RuntimeError(f"{name} --version says {printed!r}")
    listed = run(commands / "python", "-m", "pip", "list", "--disable-pip-version-check").lower()
    if extra in {"onnx", "openvino"} and "tensorflow" in listed:
        raise RuntimeError(f"ferserve[{extra}] brings TensorFlow:\n{listed}")


def serve_once(server_command: list[str], commands: Path, work: Path) -> float:
    """Starts a server in an empty folder, analyses a picture with the installed client, and stops the server.

    Args:
        server_command: What starts the server, without flags.
        commands: Folder of the client's command.
        work: Folder for the log.

    Returns:
        Seconds from the start of the command to the answer.

    Raises:
        RuntimeError: The server does not start, or the answer names no expression.
    """
    folder = work / f"empty-{Path(server_command[0]).name}"
    folder.mkdir()
    log = folder.with_suffix(".log")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["UV_CACHE_DIR"] = str(work / "uv-cache")
    flags = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--metrics-listen", "off"]
    began_s = time.monotonic()
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [*server_command, *flags, "--log-format", "json"],
            cwd=folder,
            env=environment,
            stdout=stream,
            stderr=stream,
        )
        try:
            address = f"127.0.0.1:{_port(log, server)}"
            answer = _analyze(commands, address)
            answered_after_s = time.monotonic() - began_s
        finally:
            server.terminate()
            code = server.wait(60)
    if code or '"emotion"' not in answer:
        raise RuntimeError(f"exit {code}, answer {answer!r}, log:\n{log.read_text()[-3000:]}")
    return answered_after_s


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
        commands = install(work, options.extra)
        check_commands(commands, options.extra)
        seconds = serve_once([str(commands / "ferserve-server")], commands, work)
        print(f"ferserve-server of the wheels answered after {seconds:.0f} s")
        uvx = shutil.which("uvx")
        if uvx is None:
            print("There is no uv here: uvx was not tried.")
            return
        source = ["--python", sys.executable, "--find-links", str(DIST), "--from", f"ferserve[{options.extra}]"]
        seconds = serve_once([uvx, *source, "ferserve-server"], commands, work)
        print(f"uvx --from 'ferserve[{options.extra}]' ferserve-server answered after {seconds:.0f} s")
        if seconds > UVX_LIMIT_S:
            raise RuntimeError(f"that is more than {UVX_LIMIT_S:.0f} s")
        if any((work / "uv-cache").rglob("tensorflow")):
            raise RuntimeError("uvx fetched TensorFlow")


if __name__ == "__main__":
    main()
