"""Tests the estimate of more cores' throughput from the processor time of a call."""

import pytest
from scaling import load_of_each, primary_share, scaling, scaling_table


def test_one_process_has_all_the_work():
    assert load_of_each(200e-6, 300e-6, 80e-6, 1) == (200e-6, 0.0)


@pytest.mark.parametrize("processes", [2, 3, 4, 16])
def test_each_process_gets_its_part_of_an_average_call(processes):
    share = primary_share(processes)

    primary, worker = load_of_each(200e-6, 300e-6, 80e-6, processes)

    assert primary == pytest.approx(share * 200e-6 + (1 - share) * 80e-6)
    assert worker * (processes - 1) == pytest.approx((1 - share) * 300e-6)


def test_the_table_says_what_was_measured_what_follows_and_where_the_primary_is_full():
    def run(faces_per_s, primary_cpu_s, worker_cpu_s=0.0):
        return {
            "faces_per_s": faces_per_s,
            "primary_cpu_s": primary_cpu_s,
            "worker_cpu_s": worker_cpu_s,
            "other_work_share": 0.0,
        }

    figures = scaling({1: [run(15_000, 45e-6)], 2: [run(12_000, 26e-6, 68e-6), run(12_100, 28e-6, 68e-6)]})

    lines = scaling_table(figures)
    assert lines[2] == "| 1, measured | 1 | 15,000 | - | 45 | - |"
    assert lines[3] == "| 2, measured, all calls at the other | 0 | - | - | 27 | 68 |"
    assert lines[4] == "| 1 | 1 | 22,222 | 1.00 | 45 | - |"
    assert lines[5] == "| 2 | 0.48 | 28,105 | 1.26 | 36 | 36 |"
    assert lines[7] == "| 4, the primary is full | 0 | 37,037 | 1.67 | 27 | 23 |"
