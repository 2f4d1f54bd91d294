"""Tests versions that hang, grow or lie during validation: they harm only themselves (faults, items 2 and 7)."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
import zipfile
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.engine.step_limits import StepLimits
from support.engine_children import ALLOCATING, LOOPING, SHORT_OF_FILES, SLEEPING
from support.engine_server import engine_server
from support.fake_models import publish_fake
from support.local_server import LocalServer, eventually, rejection_of
from support.model_factory import manifest_document
from support.process_memory import resident_mib
from support.processes import ENGINE, children

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = StepLimits(timeout_s=4.0, memory_bytes=400 << 20)


async def _reason(server: LocalServer, name: str, version: int) -> str:
    try:
        model = (await server.models.GetModel(model_pb2.GetModelRequest(name=name))).model
    except grpc.aio.AioRpcError:
        return ""
    return {each.version: each.failure.reason for each in model.versions}.get(version, "")


@pytest.mark.parametrize(
    ("version", "reason"),
    [(SLEEPING, "LOAD_TIMED_OUT"), (LOOPING, "LOAD_TIMED_OUT"), (ALLOCATING, "LOAD_OUT_OF_MEMORY")],
    ids=["sleeps", "loops", "allocates"],
)
async def test_a_version_that_does_not_end_is_ended_with_a_reason_and_others_load(
    tmp_path: Path, version: int, reason: str
) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path, limits=LIMITS) as server:
        publish_fake(tmp_path, "fer-slow", version)
        publish_fake(tmp_path, "fer-other")

        async def reported() -> bool:
            return await _reason(server, "fer-slow", version) == reason

        async def other_is_ready() -> bool:
            model = (await server.models.GetModel(model_pb2.GetModelRequest(name="fer-other"))).model
            return model.serving_version == 1

        await eventually(reported, 90)
        await eventually(other_is_ready, 90)
        assert len(children(ENGINE)) == 2
        assert resident_mib(os.getpid())[os.getpid()] < 2000


async def test_a_control_call_waits_no_longer_than_the_limit_of_a_step(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path, limits=LIMITS, control_on_main=True, repository_poll_s=0) as server:
        publish_fake(tmp_path, "fer-slow", SLEEPING)
        publish_fake(tmp_path, "fer-other")
        slow = server.models.LoadVersion(
            model_pb2.LoadVersionRequest(name="fer-slow", version=SLEEPING), timeout=60
        )
        slow = asyncio.ensure_future(slow)
        await asyncio.sleep(0.2)
        started_at = time.monotonic()
        await server.models.LoadVersion(model_pb2.LoadVersionRequest(name="fer-other", version=1), timeout=60)

        assert time.monotonic() - started_at < 5 * LIMITS.timeout_s + 10
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await slow
        assert rejection_of(caught.value).reason == "LOAD_TIMED_OUT"


def _republish(folder: Path, golden: bytes) -> None:
    """Puts another golden set into a version, with a manifest that names it."""
    (folder / "assets.extra" / "golden.npz").write_bytes(golden)
    document = manifest_document(folder, folder.parent.name, int(folder.name))
    (folder / "assets.extra" / "manifest.json").write_text(json.dumps(document))


def _bomb() -> bytes:
    """A golden set of 2.7 MB that unpacks to 2.6 GiB; its headers are as they should be."""
    buffer = io.BytesIO()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1_211_000, 48, 48, 1)}
    )
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("faces.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            for _ in range(2661):
                member.write(bytes(1 << 20))
        archive.writestr("probabilities.npy", b"")
    return buffer.getvalue()


async def test_a_golden_set_that_unpacks_to_gigabytes_is_rejected_before_it_is_unpacked(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path) as server:
        before = resident_mib(os.getpid())[os.getpid()]
        bomb = await asyncio.to_thread(_bomb)
        assert len(bomb) < 4_000_000
        staged = publish_fake(tmp_path / "staged", "fer-bomb", 2)
        _republish(staged, bomb)
        (tmp_path / "fer-bomb").mkdir()
        staged.rename(tmp_path / "fer-bomb" / "2")

        async def reported() -> bool:
            return await _reason(server, "fer-bomb", 2) == "GOLDEN_INVALID"

        await eventually(reported, 90)
        assert resident_mib(os.getpid())[os.getpid()] - before < 200


async def test_a_failure_that_may_go_away_is_tried_again(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path) as server:
        folder = publish_fake(tmp_path, "fer-short", SHORT_OF_FILES)

        async def rejected() -> bool:
            return await _reason(server, "fer-short", SHORT_OF_FILES) == "LOAD_FAILED"

        async def ready() -> bool:
            model = (await server.models.GetModel(model_pb2.GetModelRequest(name="fer-short"))).model
            return model.serving_version == SHORT_OF_FILES

        await eventually(rejected)
        (folder.parent / "enough").touch()
        await eventually(ready, 90)
