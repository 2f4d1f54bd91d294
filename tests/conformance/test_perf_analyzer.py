"""Tests that NVIDIA's perf_analyzer, a C++ client, measures the server as Triton and as TensorFlow Serving."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_client import EmotionClient
from support.conformance import perf_analyzer

if TYPE_CHECKING:
    from support.server_process import ServerProcess

TFSERVING = ("--service-kind", "tfserving", "--model-signature-name", "serving_default")
KINDS = {"unary": (), "async": ("--async",), "streaming": ("--async", "--streaming"), "tfserving": TFSERVING}


def measure(server: ServerProcess, kind: str, concurrency: int, batch_size: int, *more: str) -> str:
    """One measurement; it is as stable as it gets at once, for its numbers are not what is tested."""
    return perf_analyzer(
        *("-m", "fer-nano", "-u", server.address, "-i", "grpc", "--shape", "faces:48,48,1"),
        *("--measurement-mode", "count_windows", "--measurement-request-count", "100"),
        *("-r", "10", "-s", "999", "-p", "2000"),
        *("--concurrency-range", str(concurrency), "-b", str(batch_size), *KINDS[kind], *more),
    )


def assert_measured(reported: str, *, with_statistics: bool) -> None:
    assert float(re.search(r"Throughput: ([\d.]+) infer/sec", reported)[1]) > 0
    assert "error" not in reported.lower()
    if with_statistics:
        counts = {name: int(count) for name, count in re.findall(r"(\w+ count): (\d+)", reported)}
        assert counts["Inference count"] >= counts["Execution count"] > 0
        assert re.search(r"compute infer [1-9]\d* usec", reported)


@pytest.mark.parametrize("kind", ["streaming", "tfserving"])
def test_it_measures_small_batches(running_server, kind):
    assert_measured(measure(running_server, kind, 8, 2), with_statistics=kind != "tfserving")


@pytest.mark.conformance
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize("concurrency", [1, 8, 64])
def test_it_measures_every_way_of_asking(running_server, kind, concurrency, batch_size):
    reported = measure(running_server, kind, concurrency, batch_size)
    assert_measured(reported, with_statistics=kind != "tfserving")


@pytest.mark.conformance
def test_it_finds_the_scores_that_it_was_given(running_server, tmp_path):
    face = np.random.default_rng(0).integers(0, 256, (1, 48, 48), np.uint8)
    with EmotionClient(running_server.address) as client:
        (prediction,) = client.classify(face)
    data = {"faces": {"content": face.ravel().tolist(), "shape": [48, 48, 1]}}
    for shift, fits in ((0.0, True), (0.25, False)):
        expected = [score + shift for score in prediction.scores.values()]
        path = tmp_path / "data.json"
        answer = {
            "probabilities": {"content": expected, "shape": [7]},
            "labels": {"content": [prediction.emotion], "shape": [1]},
        }
        path.write_text(json.dumps({"data": [data], "validation_data": [answer]}))
        if fits:
            measure(running_server, "unary", 1, 1, "--input-data", str(path))
        else:
            with pytest.raises(AssertionError, match="expected"):
                measure(running_server, "unary", 1, 1, "--input-data", str(path))
