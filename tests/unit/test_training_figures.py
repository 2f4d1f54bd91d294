import numpy as np
import pytest

from ferserve_training.errors import DataError
from ferserve_training.evaluation.figures import class_figures, reliability, risk_coverage
from ferserve_training.evaluation.groups import audit_groups, load_groups
from ferserve_training.evaluation.intervals import wilson_interval
from ferserve_training.evaluation.mcnemar import McNemar, mcnemar
from ferserve_training.evaluation.perturbations import CHANGES, changed
from ferserve_training.evaluation.scores import metric_prefix
from ferserve_training.export.drawn_faces import draw_faces


def _sure(*calls, confidence=0.9):
    """Probabilities that call the given classes with one confidence."""
    rows = np.full((len(calls), 7), (1 - confidence) / 6)
    rows[np.arange(len(calls)), calls] = confidence
    return rows


def test_class_figures_agree_with_a_count_by_hand():
    figures = class_figures(np.log(_sure(0, 0, 0, 3, 3)), np.asarray([0, 0, 3, 3, 0]))

    assert (figures[0].precision, figures[0].recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (figures[3].precision, figures[3].recall, figures[3].f1) == (0.5, 0.5, 0.5)
    assert [each.support for each in figures] == [3, 0, 0, 2, 0, 0, 0]
    # Of the 3 x 2 pairs of an angry and another face, 2 are ranked right, 3 tie and 1 is ranked wrong.
    assert figures[0].auc == pytest.approx((2 + 3 / 2) / 6)
    assert figures[1].auc is None


def test_reliability_bins_hold_confidence_against_accuracy():
    probabilities = np.concatenate([_sure(0, 1, 2, 3), _sure(4, 5, confidence=0.5)])

    bins = reliability(probabilities, np.asarray([0, 1, 2, 6, 4, 6]), bin_count=10)

    assert [(each.confidence, each.accuracy, each.count) for each in bins] == [
        (pytest.approx(0.5), 0.5, 2),
        (pytest.approx(0.9), 0.75, 4),
    ]


def test_the_surest_faces_are_answered_first():
    probabilities = np.concatenate([_sure(1, confidence=0.2 + 0.05 * index) for index in range(10)])
    labels = np.asarray([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])

    assert risk_coverage(probabilities, labels) == (
        (1.0, pytest.approx(5 / 10)),
        (0.9, pytest.approx(5 / 9)),
        (0.8, pytest.approx(5 / 8)),
        (0.7, pytest.approx(5 / 7)),
        (0.6, pytest.approx(5 / 6)),
        (0.5, 1.0),
    )


def test_mcnemar_agrees_with_the_binomial_by_hand():
    first = np.asarray([True] * 8 + [False] * 2 + [True] * 5)
    second = np.asarray([False] * 8 + [True] * 2 + [True] * 5)

    # Twice one, ten and 45 of the 1,024 ways to split ten faces.
    assert mcnemar(first, second) == McNemar(8, 2, pytest.approx(112 / 1024))


def test_nets_that_hit_the_same_faces_do_not_differ():
    hits = np.asarray([True, False, True])

    assert mcnemar(hits, hits) == McNemar(0, 0, 1.0)


def test_mcnemar_takes_thousands_of_faces():
    even = np.asarray([True] * 3000 + [False] * 3000)

    assert mcnemar(even, ~even).p_value == 1.0
    assert mcnemar(np.ones(6000, np.bool_), np.zeros(6000, np.bool_)).p_value == 0.0


def test_groups_are_scored_apart():
    labels = np.asarray([0, 0, 0, 0, 0, 0])
    groups = np.asarray(["b", "b", "a", "a", "a", "a"])

    a, b = audit_groups(_sure(0, 1, 0, 0, 0, 1), labels, groups)

    assert (a.name, a.count, a.accuracy, a.gap) == ("a", 4, 0.75, 0.25)
    assert a.accuracy_interval == wilson_interval(3, 4)
    assert a.calibration == pytest.approx(0.15)
    assert a.calibration_interval[0] <= a.calibration <= a.calibration_interval[1]
    (low_a, high_a), (low_b, high_b) = wilson_interval(3, 4), wilson_interval(1, 2)
    assert a.gap_interval == (
        pytest.approx(0.25 - np.hypot(0.75 - low_a, high_b - 0.5)),
        pytest.approx(0.25 + np.hypot(high_a - 0.75, 0.5 - low_b)),
    )
    assert (b.name, b.gap) == ("b", -0.25)


def test_a_single_group_has_no_gap():
    (only,) = audit_groups(_sure(0), np.asarray([0]), np.asarray(["a"]))

    assert (only.gap, only.gap_interval) == (None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("face,group\n", "lacks the column 'name'"),
        ("name,group\na.png,\n", "line 2: needs a name and a group"),
        ("name,group\na.png,x\na.png,y\n", r"line 3: puts a\.png into a second group"),
    ],
)
def test_bad_groups_are_named(tmp_path, content, message):
    (tmp_path / "groups.csv").write_text(content)

    with pytest.raises(DataError, match=message):
        load_groups(tmp_path / "groups.csv")


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_the_shape_and_changes_the_face(name):
    faces = draw_faces(3)

    views = changed(faces, CHANGES[name])

    assert (views.shape, views.dtype) == (faces.shape, np.uint8)
    assert (views != faces).any(axis=(1, 2, 3)).all()


def test_a_shift_moves_the_pixels():
    faces = draw_faces(1)

    assert (changed(faces, CHANGES["shift 4 px right"])[:, :, 4:] == faces[:, :, :-4]).all()
    assert (changed(faces, CHANGES["shift 4 px down"])[:, 4:] == faces[:, :-4]).all()


def test_figures_carry_the_name_of_their_split():
    assert [metric_prefix(split) for split in ("PublicTest", "validation")] == ["public_test_", "validation_"]
