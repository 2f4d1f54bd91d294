"""What more cores would carry, from the processor time of a call."""

import pytest
from scaling import carried_per_s, scaling, scaling_table


@pytest.mark.parametrize(("front_count", "expected"), [(1, 5_000), (2, 10_000), (3, 12_500), (16, 12_500)])
def test_front_processes_add_up_until_the_owner_is_full(front_count, expected):
    assert carried_per_s(200e-6, 80e-6, front_count) == pytest.approx(expected)


def test_the_table_says_what_was_measured_and_where_the_owner_is_full():
    def run(faces_per_s, owner_cpu_s, front_cpu_s=0.0):
        return {
            "faces_per_s": faces_per_s,
            "owner_cpu_s": owner_cpu_s,
            "front_cpu_s": front_cpu_s,
            "other_work_share": 0.0,
        }

    figures = scaling({1: [run(5_000, 200e-6)], 2: [run(4_000, 75e-6, 250e-6), run(4_100, 77e-6, 250e-6)]})

    lines = scaling_table(figures)
    assert lines[2] == "| 1, measured | 1 | 5,000 | 1.00 | 200 |"
    assert lines[3] == "| 1 + 1 | 2 | 4,000 | 0.80 | 250 + 76 |"
    assert lines[5] == "| 1 + 4, the owner is full | 5 | 13,158 | 2.63 | 250 + 76 |"
