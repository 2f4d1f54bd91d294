"""Tests the simulation of queues and the arithmetic of docs/scaling.md."""

import json

import numpy as np
import pytest
from capacity import ASSUMPTIONS, DOCUMENT, RESULTS, costs, filled, needs, server, summary
from queue_simulation import Arrival, Machine, Simulation, batch_times

from ferserve_server.scheduler.settings import BatcherSettings

MACHINE = Machine(2, 0.1, 1, lambda rows: 0.001 + rows * 0.0001, BatcherSettings(max_queue_faces=256))


def outcomes(*arrivals, machine=MACHINE):
    return Simulation(machine).run(arrivals)


def frames(count, at_s=0.0, gap_s=0.0):
    return [Arrival(at_s + gap_s * number, f"camera {number}", is_picture=True) for number in range(count)]


def test_a_lone_picture_takes_its_search_and_a_batch_of_one():
    (only,) = outcomes(*frames(1))
    assert only.latency_s == pytest.approx(0.1 + 0.0011)
    assert (only.vision_wait_s, only.queue_s) == (0.0, 0.0)


def test_pictures_at_one_moment_wait_for_a_thread_and_spread_ones_do_not():
    together, spread = outcomes(*frames(6)), outcomes(*frames(6, gap_s=0.051))
    assert [round(each.vision_wait_s, 3) for each in together] == [0.0, 0.0, 0.1, 0.1, 0.2, 0.2]
    assert max(each.vision_wait_s for each in spread) == 0.0


def test_faces_of_one_moment_run_in_one_batch():
    found = outcomes(*(Arrival(0.0, f"caller {number}") for number in range(8)))
    assert [each.latency_s for each in found] == pytest.approx([0.0018] * 8)


def test_a_full_queue_rejects_and_everything_else_is_answered():
    machine = Machine(1, 0.1, 1, lambda _rows: 1.0, BatcherSettings(bucket_sizes=(1,), max_queue_faces=4))
    found = outcomes(*(Arrival(0.001 * number, f"caller {number}") for number in range(20)), machine=machine)
    assert {each.rejection for each in found} == {"", "QUEUE_FULL"}
    assert all((each.latency_s is None) == bool(each.rejection) for each in found)


def test_accepted_requests_with_deadlines_are_mostly_in_time():
    arrivals = [Arrival(0.00005 * number, f"caller {number % 9}", timeout_s=0.05) for number in range(4000)]
    found = outcomes(*arrivals)
    answered = [each for each in found if each.latency_s is not None]
    assert 0 < len(answered) < len(found)
    assert np.mean([each.latency_s <= 0.05 for each in answered]) > 0.8


def test_one_caller_with_many_faces_does_not_keep_the_others_waiting():
    machine = Machine(1, 0.1, 1, MACHINE.batch_s, BatcherSettings(max_queue_faces=4096))
    bulk = [Arrival(0.0, "bulk", face_count=512) for _ in range(4)]
    found = outcomes(*bulk, Arrival(0.002, "single"), machine=machine)
    by_caller = {each.arrival.caller: each.latency_s for each in found}
    assert by_caller["single"] < by_caller["bulk"] / 4


def test_batch_times_follow_the_measured_rates():
    batch_s = batch_times({1: 1000.0, 11: 5500.0}, executors=2)
    assert batch_s(1) == pytest.approx(0.002)
    assert batch_s(6) == pytest.approx(0.003)
    assert batch_s(22) == pytest.approx(0.008)


def test_needs_grow_with_the_cameras_and_tracking_only_lowers_them():
    cost = {
        "face_core_s": 1e-4,
        "decode_core_s": 1e-3,
        "search_core_s": 1e-2,
        "frame_bytes": 1e5,
        "server_mib": 300,
    }
    few, many = needs(1_000, cost), needs(100_000, cost)
    assert many["cores"] == pytest.approx(100 * few["cores"], rel=0.01)
    assert few["cores"] == 93  # 5,000 frames/s of 11.1 ms, at 60 %
    assert few["cores_at_least_with_tracking"] < few["cores"]
    assert few["gbit_per_s"] == 4.0


def test_the_document_holds_the_figures_of_the_committed_reports():
    reports = {
        name: json.loads((RESULTS / f"{name}.json").read_text()) for name in ("serving", "pictures", "detection")
    }
    document = json.loads((RESULTS / "capacity.json").read_text())
    assert document["costs"] == costs(reports), "run `make capacity`"
    assert document["assumptions"] == ASSUMPTIONS, "run `make capacity`"
    assert document["needs"] == [needs(each["cameras"], costs(reports)) for each in document["needs"]]
    text = DOCUMENT.read_text()
    assert filled(text, document) == text, "run `make capacity`"


def test_the_simulated_server_is_made_of_the_reports():
    reports = {
        name: json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("serving", "pictures", "detection", "engine")
    }
    machine = server(reports)
    simulation = Simulation(machine)
    found = summary(simulation.run(frames(28)), simulation)
    assert machine.vision_threads == 14
    assert found["most_pictures"] == 14
    assert found["vision_wait_p99_ms"] == pytest.approx(machine.picture_s * 1e3, rel=0.01)
