"""Tests that the counts that perf_analyzer compares are always the same, and belong to one version."""

from __future__ import annotations

import numpy as np

from ferserve_server.domain.ports import DispatchReason, ExecutedBatch
from ferserve_server.domain.servable import ServableId, ServableState
from ferserve_server.interop.open_inference.metadata import format_statistics
from ferserve_server.interop.statistics import Statistics
from ferserve_server.telemetry.recorder import InferenceTee
from support.recorder import Recorder

ONE, TWO = ServableId("fer", 1), ServableId("fer", 2)


def execute(observer, servable, face_count, inference_s=0.5):
    scores = np.zeros((face_count, 7), np.float32)
    observer.batch_executed(ExecutedBatch(servable, DispatchReason.FULL, 8, 0.0, inference_s, scores))


def answered(statistics, servable=ONE, queue_s=0.0):
    statistics.answered(servable, total_s=1.0, queue_s=queue_s, input_s=0.25, inference_s=0.5, output_s=0.125)


def test_five_counts_move_together_even_when_nothing_waited():
    statistics = Statistics()
    for _ in range(3):
        answered(statistics)
    (entry,) = format_statistics([(ONE, statistics.of(ONE))]).model_stats
    stats = entry.inference_stats
    spans = (stats.success, stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert [span.count for span in spans] == [3] * 5
    assert [span.ns for span in spans] == [3 * 10**9, 0, 75 * 10**7, 15 * 10**8, 375 * 10**6]
    assert entry.version.isdecimal()


def test_faces_and_batches_are_counted_by_size():
    statistics = Statistics(wall_clock=lambda: 1234.5)
    for face_count in (4, 4, 2):
        execute(statistics, ONE, face_count)
    (entry,) = format_statistics([(ONE, statistics.of(ONE))]).model_stats
    assert (entry.inference_count, entry.execution_count, entry.last_inference) == (10, 3, 1_234_500)
    assert [(batch.batch_size, batch.compute_infer.count) for batch in entry.batch_stats] == [(2, 1), (4, 2)]


def test_versions_are_counted_apart_and_forgotten_when_gone():
    statistics = Statistics()
    answered(statistics, ONE)
    statistics.failed(TWO, 0.5)
    assert (statistics.of(ONE).success.count, statistics.of(TWO).success.count) == (1, 0)
    assert statistics.of(TWO).fail.count == 1
    statistics.state_changed(ONE, ServableState.DRAINING)
    assert statistics.of(ONE).success.count == 1
    statistics.state_changed(ONE, ServableState.UNLOADED)
    assert statistics.of(ONE).success.count == 0


def test_a_tee_tells_everybody_everything():
    observers = Recorder(), Recorder()
    tee = InferenceTee(*observers)
    execute(tee, ONE, 4)
    tee.batch_failed(ONE, face_count=2)
    tee.rejected("QUEUE_FULL")
    tee.cancelled("queued")
    tee.state_changed(ONE, ServableState.READY)
    for heard in observers:
        assert heard.batch_sizes == [4]
        assert heard.failed_batch_sizes == [2]
        assert heard.rejections == ["QUEUE_FULL"]
        assert heard.cancellations == ["queued"]
        assert heard.states == [("fer/1", "ready")]
