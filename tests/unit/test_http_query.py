"""Tests options of a query string: their meaning, and the rejection of wrong ones by name."""

from __future__ import annotations

import pytest

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.domain.face import BoundingBox, DetectionOptions, HaarOptions, NotAFacePolicy
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.http.query import ANALYZE_OPTIONS, AnalyzeOptions, parse_analyze, parse_options, parse_timeout
from ferserve_server.services.limits import RequestLimits

LIMITS = RequestLimits(1000, 1000, 4, 4, max_detection_side_pixels=640)
DEFAULTS = DetectionOptions(min_face_pixels=50, score_threshold=0.6)


def _parse(**options: str) -> AnalyzeOptions:
    return parse_analyze(options, DEFAULTS, LIMITS)


def test_without_options_the_servers_settings_hold() -> None:
    assert _parse() == AnalyzeOptions(ModelSpec(), Priority.INTERACTIVE, DEFAULTS)


def test_every_option_means_something() -> None:
    given = {
        "model": "fer-small",
        "version": "3",
        "priority": "bulk",
        "detect": "false",
        "detection_side_pixels": "320",
        "min_face_pixels": "20",
        "min_neighbors": "7",
        "scale_factor": "1.05",
        "score_threshold": "0.25",
        "max_faces": "3",
        "detector": "haar",
        "tiles": "true",
        "not_a_face_policy": "mark",
        "region": "1,2,300,400",
        "timeout_ms": "1500",
    }
    assert set(given) == set(ANALYZE_OPTIONS)
    parsed = _parse(**given)
    assert parsed.spec == ModelSpec("fer-small", 3)
    assert parsed.priority is Priority.BULK
    assert parsed.detection == DetectionOptions(
        whole_image=True,
        detection_side_pixels=320,
        min_face_pixels=20,
        detector="haar",
        score_threshold=0.25,
        max_faces=3,
        region=BoundingBox(1, 2, 300, 400),
        tiles=True,
        not_a_face_policy=NotAFacePolicy.MARK,
        haar=HaarOptions(scale_factor=1.05, min_neighbors=7),
    )
    assert parse_timeout(given) == 1.5
    assert parse_timeout({}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "../etc"),
        ("version", "0"),
        ("version", "1.5"),
        ("version", "-1"),
        ("priority", "high"),
        ("detect", "no"),
        ("detection_side_pixels", "641"),
        ("min_face_pixels", "4.5"),
        ("min_face_pixels", "٣٠"),
        ("min_face_pixels", "99999999999"),
        ("min_neighbors", "101"),
        ("scale_factor", "nan"),
        ("scale_factor", "inf"),
        ("scale_factor", "1e999"),
        ("score_threshold", "-0.1"),
        ("score_threshold", "1.1"),
        ("score_threshold", ""),
        ("detector", "viola"),
        ("tiles", "yes"),
        ("max_faces", "-1"),
        ("not_a_face_policy", "keep"),
        ("region", "1,2,3"),
        ("region", "1,2,3,-4"),
        ("region", "1,2,3,0"),
    ],
)
def test_a_value_that_is_not_allowed_is_rejected_by_the_options_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        _parse(**{name: value})
    assert caught.value.field == name
    assert caught.value.reason in {"OPTION_OUT_OF_RANGE", "MODEL_NAME_INVALID"}


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", ""])
def test_a_timeout_is_a_whole_number_of_milliseconds(value: str) -> None:
    with pytest.raises(InvalidRequestError, match="timeout_ms") as caught:
        parse_timeout({"timeout_ms": value})
    assert caught.value.reason == "OPTION_OUT_OF_RANGE"


def test_options_that_nobody_knows_and_repeated_ones_are_rejected() -> None:
    assert parse_options([("model", "x"), ("version", "1")], ANALYZE_OPTIONS) == {"model": "x", "version": "1"}
    for pairs, reason in (
        ([("modle", "x")], "OPTION_UNKNOWN"),
        ([("model", "x"), ("model", "y")], "OPTION_REPEATED"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            parse_options(pairs, ANALYZE_OPTIONS)
        assert caught.value.reason == reason


def test_a_version_that_is_no_number_is_an_alias() -> None:
    spec = _parse(version="stable").spec
    assert (spec.version, spec.alias) == (None, "stable")
