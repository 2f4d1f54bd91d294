"""Tests that calls and streams of 32 faces are compared with the engine round by round."""

from large_calls import CALLS, ENGINE, STREAMS, compare, large_calls_table


def run(faces_per_s, cpu_s):
    return {"faces_per_s": faces_per_s, "cpu_s_per_1000_faces": cpu_s, "errors": {}, "parts": {"all": {}}}


def test_ratios_are_of_runs_of_the_same_round():
    found = {
        ENGINE: [run(30_000, 0.06), run(15_000, 0.12), run(15_000, 0.12)],
        CALLS.name: [run(20_000, 0.072), run(10_000, 0.144), run(9_000, 0.144)],
        STREAMS.name: [run(28_000, 0.066), run(14_000, 0.132), run(12_600, 0.132)],
    }

    figures = compare(found)

    assert figures[STREAMS.name]["throughput_to_calls"] == 1.4
    assert figures[STREAMS.name]["throughput_to_calls_quartiles"] == [1.4, 1.4]
    assert figures[CALLS.name]["cpu_ratio"] == 1.2
    assert figures[STREAMS.name]["cpu_ratio"] == 1.1


def test_the_table_has_a_row_for_the_engine_and_for_each_load():
    found = {ENGINE: [run(30_000, 0.06)] * 2, CALLS.name: [run(20_000, 0.075)] * 2}

    lines = large_calls_table({"loads": compare(found)})

    assert lines[2] == f"| {ENGINE} | 30,000 | 1.50 (1.50 to 1.50) | - | 0.060 | 1.00 (1.00 to 1.00) |"
    assert lines[3] == f"| {CALLS.name} | 20,000 | 1.00 (1.00 to 1.00) | - | 0.075 | 1.25 (1.25 to 1.25) |"
