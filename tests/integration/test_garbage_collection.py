"""Tests Python's garbage collector in real processes: it skips objects that live as long as they do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.server_process import run_server

if TYPE_CHECKING:
    from pathlib import Path

MIN_OBJECTS = 30_000
"""So many at least make up the modules of a process: a server has 80,000 objects, an engine 100,000."""

WATCH = """
import gc, os, pathlib, threading, time

def watch():
    file = pathlib.Path("FOLDER", str(os.getpid()))
    while True:
        file.with_suffix(".new").write_text(str(gc.get_freeze_count()))
        file.with_suffix(".new").rename(file)
        time.sleep(0.1)

threading.Thread(target=watch, daemon=True).start()
"""
"""Run by Python itself at the start of every process (`sitecustomize`): writes down what was set aside."""


@pytest.mark.parametrize("flags", [("--engine", "process"), ("--engine", "thread"), ("--processes", "3")])
def test_no_process_of_a_server_goes_through_its_modules_at_every_collection(
    tmp_path: Path, tiny_model_repo: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    files = tmp_path / "counts"
    files.mkdir()
    # The folder stands in the program: child processes get few variables of the environment.
    (tmp_path / "sitecustomize.py").write_text(WATCH.replace("FOLDER", str(files)))

    def counts() -> list[int]:
        return [int(file.read_text()) for file in files.iterdir() if not file.suffix]

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with run_server(tiny_model_repo, *flags) as server:
        server.wait_until(lambda: min(counts()) > MIN_OBJECTS, "has set its modules aside in all processes")
        assert len(counts()) == {"process": 2, "thread": 1, "3": 4}[flags[1]]
