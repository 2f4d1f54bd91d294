import pytest

from ferserve_training.evaluation.intervals import wilson_interval


@pytest.mark.parametrize(
    ("successes", "sample_count", "expected"),
    [
        (81, 263, (0.2553, 0.3662)),  # Newcombe 1998, table I, method 3
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0000, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_the_interval_agrees_with_newcombes_table(successes, sample_count, expected):
    assert wilson_interval(successes, sample_count) == pytest.approx(expected, abs=5e-5)


def test_perfection_is_not_certain_either():
    low, high = wilson_interval(10, 10)

    assert low == pytest.approx(1 - wilson_interval(0, 10)[1])
    assert high == pytest.approx(1.0)
