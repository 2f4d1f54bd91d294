"""Tests that versions loaded and unloaded while a server runs leave nothing behind."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_client import EmotionClient, ModelNotFoundError
from support.model_factory import publish_model
from support.process_memory import resident_mib
from support.server_process import run_server

if TYPE_CHECKING:
    from pathlib import Path

    from support.server_process import ServerProcess

BALLAST_MIB = 16


@dataclass(frozen=True)
class Mode:
    """A way to run versions.

    Attributes:
        engine: The setting.
        process_count: Processes of a server with one version.
        cycles: Versions that come and go while memory is watched.
        most_growth_mib: Bound on what the memory of all processes grows by meanwhile.
    """

    engine: str
    process_count: int
    cycles: int
    most_growth_mib: float


THREAD = Mode("thread", process_count=1, cycles=5, most_growth_mib=160)
"""It was 801 to 907 MiB over 90 cycles, in steps of one copy of the ballast, whichever version was loaded. Each
version whose graph stays adds 65 MiB, each whose sessions stay 403 MiB."""

PROCESS = Mode("process", process_count=2, cycles=2, most_growth_mib=100)
"""It was 919 to 924 MiB over 8 cycles. A version whose process stays adds 810 MiB."""


def swap_to(version: int, repository: Path, server: ServerProcess, client: EmotionClient) -> None:
    """Publishes a version, waits until it alone is active, has it answer, and removes the one before."""
    publish_model(repository, version=version, seed=version, ballast_mib=BALLAST_MIB)

    def alone() -> bool:
        states = {each.version: each.state for each in client.model("fer-nano").versions}
        return states.pop(version, None) == "ready" and set(states.values()) <= {"unloaded"}

    server.wait_until(alone, f"has version {version} alone active")
    for count in (1, 8, 32):
        faces = np.random.default_rng(version).integers(0, 256, (count, 48, 48), np.uint8)
        assert len(client.classify(faces)) == count
    shutil.rmtree(repository / "fer-nano" / str(version - 1))


@pytest.mark.parametrize("mode", [PROCESS, THREAD], ids=lambda mode: mode.engine)
@pytest.mark.timeout(600)
def test_versions_that_were_replaced_are_gone_from_the_list_and_from_memory(tmp_path: Path, mode: Mode) -> None:
    last = 2 + mode.cycles
    publish_model(tmp_path, ballast_mib=BALLAST_MIB)
    flags = ["--engine", mode.engine, "--validation-latency-factor", "0"]
    with run_server(tmp_path, *flags) as server, EmotionClient(server.address) as client:
        swap_to(2, tmp_path, server, client)  # what only the first versions take
        before_mib = resident_mib(server.process.pid)
        for version in range(3, last + 1):
            swap_to(version, tmp_path, server, client)
        after_mib = resident_mib(server.process.pid)
        assert {each.version for each in client.model("fer-nano").versions if each.state == "ready"} == {last}
        assert sum("version unloaded" in line for line in server.log) == last - 1
        face = np.zeros((1, 48, 48), np.uint8)
        assert client.classify(face, model="fer-nano", version=last)
        for gone in (1, last - 1):
            with pytest.raises(ModelNotFoundError, match=f"version {gone}"):
                client.classify(face, model="fer-nano", version=gone)
    assert (len(before_mib), len(after_mib)) == (mode.process_count, mode.process_count)
    growth_mib = sum(after_mib.values()) - sum(before_mib.values())
    assert growth_mib < mode.most_growth_mib, (before_mib, after_mib)
