"""Front processes take calls in; one process owns models and batches. Real processes, real gRPC."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from support.fake_models import publish_fake
from support.front_server import CALLER_COUNT, all_know, callers, front_server, fronts_of
from support.loaders import KeptLoader
from support.local_server import classes_of, packed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    repository = tmp_path / "models"
    publish_fake(repository)
    return repository


def _faces(*classes: int) -> emotion_pb2.ClassifyFacesRequest:
    return emotion_pb2.ClassifyFacesRequest(packed=packed(*classes))


async def test_faces_of_callers_on_different_processes_share_a_batch(models: Path) -> None:
    loader = KeptLoader()
    async with (
        front_server(models, loader, hold_until_queued=CALLER_COUNT, bucket_sizes=(1, CALLER_COUNT)) as server,
        callers(server) as stubs,
    ):
        await all_know(stubs)
        calls = [each.emotion.ClassifyFaces(_faces(row % 7), timeout=60) for row, each in enumerate(stubs)]
        answers = await asyncio.gather(*calls)
        assert [classes_of(answer) for answer in answers] == [[row % 7] for row in range(CALLER_COUNT)]
        assert loader.servable.batch_sizes[-1] == CALLER_COUNT
        assert len(fronts_of(server).pids) == 2
        assert np.allclose(answers[3].results[0].prediction.scores[3], 0.7)
