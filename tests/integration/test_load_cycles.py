"""Versions that come and go for as long as a server runs leave nothing behind."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_client import EmotionClient, ModelNotFoundError
from support.model_factory import publish_model
from support.server_process import run_server

if TYPE_CHECKING:
    from support.server_process import ServerProcess

WARM_CYCLES = 2
CYCLES = 3
BALLAST_MIB = 16
MOST_GROWTH_MIB = 900
"""A server that closed no session grew by 1,930 MiB here; one that does, by up to 354 MiB that its allocator keeps
(`benchmarks/load_cycles.py` tells the two apart)."""


def resident_mib(server: ServerProcess) -> float:
    """Resident memory of the process in MiB; see proc(5)."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def swap_to(version: int, repository: Path, server: ServerProcess, client: EmotionClient) -> None:
    """Publishes a version, waits until it alone is in force, has it answer, and removes the one before."""
    publish_model(repository, version=version, seed=version, ballast_mib=BALLAST_MIB)

    def alone() -> bool:
        states = {each.version: each.state for each in client.model("fer-nano").versions}
        return states.pop(version, None) == "ready" and set(states.values()) <= {"unloaded"}

    server.wait_until(alone, f"has version {version} alone in force")
    for count in (1, 8, 32):
        faces = np.random.default_rng(version).integers(0, 256, (count, 48, 48), np.uint8)
        assert len(client.classify(faces)) == count
    shutil.rmtree(repository / "fer-nano" / str(version - 1))


@pytest.mark.timeout(600)
def test_versions_that_were_replaced_are_gone_from_the_list_and_from_memory(tmp_path: Path) -> None:
    publish_model(tmp_path, ballast_mib=BALLAST_MIB)
    with run_server(tmp_path, "--gate-latency-factor", "0") as server, EmotionClient(server.address) as client:
        for version in range(2, 2 + WARM_CYCLES):
            swap_to(version, tmp_path, server, client)
        before_mib = resident_mib(server)
        for version in range(2 + WARM_CYCLES, 2 + WARM_CYCLES + CYCLES):
            swap_to(version, tmp_path, server, client)
        after_mib = resident_mib(server)
        last = 1 + WARM_CYCLES + CYCLES
        assert {each.version for each in client.model("fer-nano").versions if each.state == "ready"} == {last}
        assert sum("version unloaded" in line for line in server.log) == last - 1
        face = np.zeros((1, 48, 48), np.uint8)
        assert client.classify(face, model="fer-nano", version=last)
        for gone in (1, last - 1):
            with pytest.raises(ModelNotFoundError, match=f"version {gone}"):
                client.classify(face, model="fer-nano", version=gone)
    assert after_mib - before_mib < MOST_GROWTH_MIB, (before_mib, after_mib)
