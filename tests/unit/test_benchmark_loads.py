"""Tests the arithmetic of the loads, and the text of their tables."""

import asyncio
import os

import pytest
from load.grpc_callers import sequence_prefix
from load.http_callers import read_response
from load.measurements import Measurements, cpu_s_per_1000_faces, load_figures, part_figures
from load.plan import Part, Plan
from load.process_tree import cpu_s, memory_mib, processes_of, start_ticks
from load.running import with_benchmarks_on_path
from overload import median_step, step_figures
from peer_tables import peer_table
from rounds import medians, quartiles, ratio
from serving_tables import serving_table, short, transport_table

from ferserve.v1.emotion_service_pb2 import ClassifyStreamRequest


def measurements(*calls):
    found = Measurements()
    for call in calls:
        found.record(*call)
    return found


def test_only_calls_that_end_in_the_window_count():
    found = part_figures(measurements((0, 0, 0.9), (0.5, 0.5, 1.5), (1.9, 1.9, 2.0)), 32, 1.0, 2.0)

    assert (found["calls_per_s"], found["faces_per_s"]) == (1, 32)


def test_latency_counts_from_when_a_call_was_due_and_a_rejection_from_when_it_was_sent():
    found = part_figures(measurements((0, 0.3, 0.5), (0, 0.3, 0.4, "RESOURCE_EXHAUSTED")), 1, 0.0, 1.0)

    assert found["p50_ms"] == pytest.approx(500)
    assert found["rejected"]["p50_ms"] == pytest.approx(100)
    assert found["errors"] == {"RESOURCE_EXHAUSTED": 1}
    assert found["late_p99_ms"] == pytest.approx(300)


def test_nothing_seen_has_no_latency():
    found = part_figures(measurements(), 1, 0.0, 1.0)

    assert found["faces_per_s"] == 0
    assert "p50_ms" not in found


def test_processor_time_is_reported_for_a_thousand_faces_and_not_at_all_for_none():
    assert cpu_s_per_1000_faces(0.5, 2000) == pytest.approx(0.25)
    assert cpu_s_per_1000_faces(0.5, 0) is None


def test_the_parts_of_a_mixed_load_are_added_up():
    one = {"faces_per_s": 100.0, "errors": {"X": 1}}

    found = load_figures({"a": one, "b": {"faces_per_s": 300.0, "errors": {"X": 2}}}, 2.0, 1.6)

    assert found == {"faces_per_s": 400, "errors": {"X": 3}, "server_cores": 0.8, "cpu_s_per_1000_faces": 2.0}


def test_a_plan_survives_the_way_to_its_process():
    part = Part("a", "http", "/", bytes(range(256)), 1, headers={"X": "1"})
    plan = Plan("127.0.0.1:1", 2, "tag", (part,), 0.5, 1.0)

    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**40])
def test_the_sequence_number_stands_before_the_rest_of_a_message(number):
    rest = ClassifyStreamRequest(faces={"face_count": 3}).SerializeToString()

    message = ClassifyStreamRequest.FromString(sequence_prefix(number) + rest)

    assert (message.sequence_id, message.faces.face_count) == (number, 3)


@pytest.mark.parametrize(
    ("response", "status", "body", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc", True),
        (b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 503, b"", False),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            200,
            b"abc",
            True,
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nabc", 200, b"abc", False),
    ],
)
async def test_a_response_over_http_is_read_to_its_end(response, status, body, keeps):
    reader = asyncio.StreamReader()
    reader.feed_data(response)
    reader.feed_eof()

    assert await read_response(reader) == (status, body, keeps)


async def test_a_response_that_ends_early_is_no_answer():
    reader = asyncio.StreamReader()
    reader.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab")
    reader.feed_eof()

    with pytest.raises(ConnectionError):
        await read_response(reader)


def test_a_process_has_processor_time_memory_and_a_start():
    here = {os.getpid()}

    assert cpu_s(here) > 0
    assert memory_mib(here)[0] >= memory_mib(here)[1] > 0
    assert start_ticks(os.getpid()).isdigit()


@pytest.mark.parametrize("pid", [0, 1])
def test_the_first_process_of_the_machine_is_taken_for_no_server(pid):
    with pytest.raises(ValueError, match="above all others"):
        processes_of(pid, "tag")


def run(faces_per_s, p99_ms=1.0, errors=()):
    part = {"faces_per_s": faces_per_s, "p99_ms": p99_ms, "errors": dict(errors), "rejected": {}, "late_p99_ms": 0}
    rest = {"server_cores": 1, "client_cores": 1, "other_work_share": 0}
    return {"faces_per_s": faces_per_s, "errors": dict(errors), "measured_s": 2, "parts": {"a": part}, **rest}


def test_rounds_give_their_medians_and_all_their_errors():
    found = medians([run(10, errors={"X": 1}), run(30), run(20, errors={"X": 2})])

    assert (found["faces_per_s"], found["errors"]) == (20, {"X": 3})


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    assert ratio([run(10), run(40), run(30)], [run(10), run(20), run(10)], "faces_per_s") == pytest.approx(2)
    assert ratio([run(0)], [run(10)], "faces_per_s") is None


def test_how_far_the_rounds_ratios_lie_apart_is_reported_of_two_and_more():
    ours, theirs = [run(10), run(40), run(30)], [run(10), run(20), run(10)]
    assert quartiles(ours, theirs, "faces_per_s") == pytest.approx([1.5, 2.5])
    assert quartiles(ours[:1], theirs[:1], "faces_per_s") is None


def test_a_server_under_test_does_not_inherit_what_ferserve_chose_for_grpc(monkeypatch):
    monkeypatch.setenv("GRPC_EXPERIMENTS", "-event_engine_poller_for_python")
    assert "GRPC_EXPERIMENTS" not in with_benchmarks_on_path()


def test_the_table_of_the_transport_compares_with_the_bare_server_and_tells_how_far_rounds_lie_apart():
    bare, ours = medians([run(100), run(100)]), medians([run(90), run(80)])
    same = {"throughput_ratio": 1.0, "cpu_ratio": 1.0, "cpu_ratio_quartiles": [1.0, 1.0]}
    figures = {"throughput_ratio": 0.85, "cpu_ratio": 1.18, "cpu_ratio_quartiles": [1.1, 1.25]}
    once = {**figures, "cpu_ratio_quartiles": None}

    table = transport_table(
        {"loads": {"unary": {"bare": bare | same, "ours": ours | figures, "once": ours | once}}}
    )

    first, second, third = table[2:]
    assert first.startswith("| unary | bare | 100 | - |")
    assert second.startswith("|  | ours | 85 | 0.850 |")
    assert "| 1.18 (1.10 to 1.25) |" in second
    assert "| 1.18 |" in third


def test_a_step_beyond_the_peak_tells_what_was_sent_answered_and_rejected():
    found = step_figures(run(900, errors={"RESOURCE_EXHAUSTED": 50}), 2.0, 1000, 32)

    assert found["of_peak"] == pytest.approx(0.9)
    assert found["rejected_per_s"] == 25
    assert found["sent_faces_per_s"] == 900 + 25 * 32


def test_the_steps_of_all_rounds_give_medians_and_rejections_of_those_that_had_any():
    steps = [
        step_figures(run(900), 2.0, 1000, 32),
        step_figures(run(700, errors={"RESOURCE_EXHAUSTED": 50}), 2.0, 1000, 32),
        step_figures(run(800, errors={"RESOURCE_EXHAUSTED": 70}), 2.0, 800, 32),
    ]
    steps[1]["rejected"], steps[2]["rejected"] = {"p50_ms": 1.0}, {"p50_ms": 3.0}

    found = median_step(steps)

    assert (found["of_peak"], found["times_peak"]) == (0.9, 2.0)
    assert found["errors"] == {"RESOURCE_EXHAUSTED": 120}
    assert found["rejected"] == {"p50_ms": 2.0}
    assert found["p50_ms"] is None


def test_numbers_are_reported_with_three_digits():
    assert [short(value) for value in (1234.5, 12.345, 1.2345, 0.12345, None)] == [
        "1,234",
        "12.3",
        "1.23",
        "0.123",
        "-",
    ]


def test_a_variant_that_did_not_start_is_named_with_its_reason():
    figures = medians([run(10)]) | {"throughput_ratio": 1.0, "throughput_ratio_quartiles": None}
    document = {"loads": {"a": {"default": figures}}, "not_started": {"two": "no such flag"}}

    assert "- two: no such flag" in serving_table(document)


def test_a_peer_that_could_not_be_measured_is_named_with_its_reason_and_the_others_have_rows():
    peer = {"interface": "HTTP", "versions": {"mosec": "1"}, "worst_score_error": 0.0}
    peer["loads"] = {"a": medians([run(10)])}

    lines = peer_table({"peers": {"mosec": peer}, "not_measured": {"Triton": "no Python"}})

    assert any(line.startswith("| mosec | 10 ") for line in lines)
    assert "- Triton: no Python" in lines
