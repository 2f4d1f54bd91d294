"""Creates an environment for each peer, below `.bench/`, from pinned requirements, through uv or pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENTS = ROOT / ".bench"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
DEBIAN_PYTHON = Path("/usr/bin/python3.11")


class NotInstalledError(Exception):
    """Reports that a peer's environment could not be made; the text has the end of the installer's output."""


def python_of(name: str) -> Path:
    """Returns the interpreter of an environment, there or not."""
    return ENVIRONMENTS / name / "bin" / "python"


def install(name: str, interpreter: str = sys.executable) -> Path:
    """Makes an environment, or reuses one with the same requirements; returns its interpreter.

    Raises:
        NotInstalledError: The interpreter is missing, or the installer failed.
    """
    wanted = (REQUIREMENTS / f"{name}.txt").read_text()
    stamp = ENVIRONMENTS / name / "requirements.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return python_of(name)
    print(f"{name}: installing", flush=True)
    uv = shutil.which("uv")
    folder, requirements = str(ENVIRONMENTS / name), str(REQUIREMENTS / f"{name}.txt")
    if uv:
        _run([uv, "venv", "-q", "--allow-existing", "--python", interpreter, folder])
        _run([uv, "pip", "install", "-q", "--python", str(python_of(name)), "-r", requirements])
    else:
        _run([interpreter, "-m", "venv", folder])
        _run([str(python_of(name)), "-m", "pip", "install", "-q", "-r", requirements])
    stamp.write_text(wanted)
    return python_of(name)


def versions(name: str) -> dict[str, str]:
    """Returns the versions of what its requirements name."""
    names = [line.partition("==")[0].partition("[")[0] for line in requirement_lines(name)]
    code = "import sys, importlib.metadata as m; print(*[m.version(name) for name in sys.argv[1:]])"
    reported = subprocess.run([python_of(name), "-c", code, *names], capture_output=True, text=True, check=True)
    return dict(zip(names, reported.stdout.split(), strict=True))


def requirement_lines(name: str) -> list[str]:
    """Returns the lines of a peer's requirements."""
    return (REQUIREMENTS / f"{name}.txt").read_text().split()


def _run(command: list[str]) -> None:
    # What is set for this interpreter is not meant for another one.
    env = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    except OSError as error:
        raise NotInstalledError(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        tail = " | ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
        raise NotInstalledError(f"{' '.join(command[:3])} ended with {done.returncode}: {tail[-600:]}")
