import numpy as np
import pytest

from ferserve_training.evaluation.scores import count_confusion, evaluate, macro_f1
from ferserve_training.labels import LABELS


def _logits(called):
    return np.eye(7, dtype=np.float32)[called] * 2


def test_the_figures_bear_the_names_of_the_manifest():
    labels = np.arange(7)

    metrics = evaluate(_logits(labels), labels, np.ones(7, bool), "digest").metrics

    assert list(metrics) == [
        "public_test_accuracy",
        "public_test_accuracy_low_95",
        "public_test_accuracy_high_95",
        "public_test_macro_f1",
        "public_test_ece",
        "public_test_ece_uncalibrated",
        "public_test_twin_free_accuracy",
        *(f"public_test_recall_{label}" for label in LABELS),
    ]


def test_recall_counts_by_the_label_not_by_the_call():
    labels = np.array([0, 0, 0, 0, 1, 2, 3, 4, 5, 6])
    called = np.array([0, 1, 1, 1, 1, 2, 3, 4, 5, 6])

    metrics = evaluate(_logits(called), labels, np.ones(10, bool), "").metrics

    assert metrics["public_test_accuracy"] == pytest.approx(0.7)
    assert metrics["public_test_recall_angry"] == pytest.approx(0.25)
    assert metrics["public_test_recall_disgust"] == pytest.approx(1.0)


def test_twins_count_in_the_accuracy_but_not_in_the_twin_free_one():
    labels = np.arange(7)
    called = labels.copy()
    called[:2] = 6
    is_twin_free = np.array([True, True, True, True, False, False, False])

    evaluation = evaluate(_logits(called), labels, is_twin_free, "")

    assert evaluation.metrics["public_test_accuracy"] == pytest.approx(5 / 7)
    assert evaluation.metrics["public_test_twin_free_accuracy"] == pytest.approx(2 / 4)
    assert (evaluation.face_count, evaluation.twin_free_count) == (7, 4)


def test_confusion_has_labels_in_rows_and_calls_in_columns():
    confusion = count_confusion(np.array([0, 0, 3]), np.array([1, 1, 3]))

    assert confusion[0, 1] == 2
    assert confusion[3, 3] == 1
    assert confusion.sum() == 3


def test_macro_f1_gives_every_class_the_same_say():
    labels = np.array([3] * 98 + [0, 0])
    called = np.array([3] * 98 + [0, 3])

    # Happy: precision 98/99, recall 1; angry: precision 1, recall 1/2; the other five never occur.
    assert macro_f1(count_confusion(labels, called)) == pytest.approx((2 * 98 / 197 + 2 / 3) / 7)
