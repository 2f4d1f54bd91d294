import numpy as np
import pytest

from ferserve_training.report.verdict import compare_with_parent, parent_summary, verdict_on


def _summary(accuracy, low, high, parent=None):
    classes = [{"label": "happy", "support": 25}, {"label": "sad", "support": 75}]
    figures = {"accuracy": accuracy, "accuracy_low_95": low, "accuracy_high_95": high}
    return {"figures": figures, "face_count": 100, "split": "validation", "classes": classes, "parent": parent}


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ((0.9, 0.8, 0.95), "better than calling every face sad (75.0%)"),
        ((0.74, 0.65, 0.82), "cannot be distinguished from calling every face sad (75.0%): do not use it"),
        ((0.3, 0.2, 0.4), "worse than calling every face sad (75.0%): do not use it"),
    ],
)
def test_a_verdict_names_the_data_and_the_floor_of_chance(figures, words):
    verdict = verdict_on(_summary(*figures))

    assert "100 faces of validation" in verdict
    assert words in verdict


def test_a_verdict_says_whether_the_parent_differs_by_more_than_chance():
    right = np.ones(100, np.bool_)
    worse, near = right.copy(), right.copy()
    worse[:30], near[:1] = False, False

    better, same = (parent_summary(compare_with_parent("fer-nano/2", right, each, {})) for each in (worse, near))

    assert "+30.0 points against fer-nano/2" in verdict_on(_summary(1.0, 0.9, 1.0, better))
    assert ", more than chance gives" in verdict_on(_summary(1.0, 0.9, 1.0, better))
    assert ", no more than chance gives" in verdict_on(_summary(1.0, 0.9, 1.0, same))
    assert parent_summary(None) is None
