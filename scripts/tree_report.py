"""Measures how easily a reader finds a subject in the server's tree, and prints a table.

Counts files and lines, modules beside the packages, cycles between modules (imports for types included), module
docstrings that begin with a clause, and the files that one crop passes from the socket to the engine and back. The
last figure is traced at run time: a profile hook in every process of a real server notes each file whose code runs
while one ClassifyFaces call is answered. Run with `make tree-report`.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import mmap
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grimp
import numpy as np

from ferserve_client import EmotionClient, ModelNotReadyError, ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parent.parent
SERVER: Final = ROOT / "server" / "src" / "ferserve_server"
ROOMS: Final = ("server/src", "client/src", "training/src")
CLAUSES: Final = ("What", "Which", "How", "Whether", "Who", "Where", "When")
START_TIMEOUT_S: Final = 120.0

_HOOK: Final = """
import mmap, os, sys, threading
_folder = os.environ["FERSERVE_TRACE"]
_switch = mmap.mmap(os.open(_folder + "/switch", os.O_RDONLY), 1, access=mmap.ACCESS_READ)
_seen = set()
def _note(frame, event, argument):
    if _switch[0] and event == "call":
        name = frame.f_code.co_filename
        if name not in _seen and "ferserve_server" in name:
            _seen.add(name)
            with open(_folder + "/files", "a") as stream:
                stream.write(name + "\\n")
threading.setprofile(_note)
sys.setprofile(_note)
"""
"""Runs when a Python process of the server starts. It notes files while the switch is 1."""


def python_files(folder: Path) -> list[Path]:
    """Lists the modules below a folder without generated stubs."""
    return sorted(path for path in folder.rglob("*.py") if "_pb2" not in path.name)


def first_words(paths: list[Path]) -> list[str]:
    """Lists the first word of each module docstring."""
    documents = (ast.get_docstring(ast.parse(path.read_text())) or "" for path in paths)
    return [match.group(0) for text in documents if (match := re.match(r"\w+", text))]


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Finds the strongly connected components of more than one node (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def module_cycles() -> list[list[str]]:
    """Finds cycles between the server's modules, imports for types included."""
    graph = grimp.build_graph("ferserve_server", exclude_type_checking_imports=False)
    return cycles({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})


@contextlib.contextmanager
def traced_server(folder: Path) -> Iterator[tuple[int, mmap.mmap]]:
    """Runs a server whose processes note their files; yields its port and the switch."""
    (folder / "sitecustomize.py").write_text(_HOOK)
    (folder / "switch").write_bytes(b"\0")
    log = folder / "log"
    environment = {**os.environ, "PYTHONPATH": str(folder), "FERSERVE_TRACE": str(folder)}
    command = [str(Path(sys.executable).with_name("ferserve-server")), "--model-repo", str(ROOT / "model_repo")]
    command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log-format", "json"]
    with log.open("wb") as stream, (folder / "switch").open("r+b") as switch:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        try:
            yield _port(log, process), mmap.mmap(switch.fileno(), 1)
        finally:
            process.terminate()
            process.wait(60)


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r'"port": ?(\d+)', log.read_text()):
            return int(found.group(1))
        time.sleep(0.1)
    raise RuntimeError(f"The server did not start:\n{log.read_text()[-2000:]}")


def files_of_one_crop() -> list[str]:
    """Lists the server's files whose code runs while one ClassifyFaces call is answered."""
    with tempfile.TemporaryDirectory() as name, traced_server(Path(name)) as (port, switch):
        crops = np.zeros((1, 48, 48), np.uint8)
        with EmotionClient(f"127.0.0.1:{port}") as client:
            _wait_until_ready(client, crops)
            for _ in range(20):
                client.classify(crops)
            switch[0] = 1
            client.classify(crops)
            switch[0] = 0
        seen = set((Path(name) / "files").read_text().split())
    return sorted(str(Path(each).relative_to(SERVER)) for each in seen if Path(each).is_relative_to(SERVER))


def _wait_until_ready(client: EmotionClient, crops: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            client.classify(crops)
        except (ModelNotReadyError, ServerUnavailableError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-trace", action="store_true", help="leave out the trace, which starts a server")
    options = parser.parse_args()
    files = python_files(SERVER)
    lines = {path: len(path.read_text().splitlines()) for path in files}
    modules = [path for path in files if path.name != "__init__.py"]
    longest = max(lines, key=lambda path: lines[path])
    words = [word for room in ROOMS for word in first_words(python_files(ROOT / room))]
    loose = sorted(path.stem for path in SERVER.glob("*.py") if path.name != "__init__.py")
    found = module_cycles()
    rows = [
        ("files of the server", f"{len(files)}, of which {len(files) - len(modules)} `__init__.py`"),
        (
            "lines",
            f"{sum(lines.values()):,}, median {statistics.median(lines[path] for path in modules):.0f} a module",
        ),
        ("longest file", f"{longest.relative_to(SERVER)}, {lines[longest]} lines"),
        ("modules beside the packages", ", ".join(loose)),
        ("cycles between modules, types included", "; ".join(" - ".join(each) for each in found) or "none"),
        ("module docstrings that begin with a clause", str(sum(word in CLAUSES for word in words))),
    ]
    if not options.no_trace:
        passed = files_of_one_crop()
        rows.append(("files that one crop passes", f"{len(passed)}: {', '.join(passed)}"))
    print("| fact | value |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
