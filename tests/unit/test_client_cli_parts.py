"""Tests the parts of the command that need no server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from grpc import StatusCode

from ferserve_client import (
    BoundingBox,
    DetectedFace,
    FrameAnswer,
    ImageAnalysis,
    Landmarks,
    Prediction,
    Servable,
    TrackEvent,
)
from ferserve_client.cli.analyze import free_path
from ferserve_client.cli.console import cause_of, explain
from ferserve_client.cli.pictures import MAX_REQUEST_BYTES, read_pictures
from ferserve_client.error_table import error_of
from ferserve_client.errors import ErrorFacts, FerserveError
from ferserve_client.outputs.records import (
    analysis_record,
    classification_record,
    failure_record,
    frame_record,
)
from ferserve_client.outputs.rows import FRAME_COLUMNS, frame_rows
from ferserve_client.outputs.summary import Summary
from ferserve_client.video.drawing import annotate, caption
from ferserve_client.video.encoding import FrameEncoder, fitted_size
from ferserve_client.video.sources import SourceKind, VideoFrame, kind_of
from ferserve_client.video.window import has_display
from ferserve_client.watch.frames import SourceReport, WatchedFrame, scaled

if TYPE_CHECKING:
    from pathlib import Path

NANO = Servable("fer-nano", 3)
HAPPY = Prediction("happy", 0.75, {"happy": 0.75, "sad": 0.25})
FACE = DetectedFace(BoundingBox(1, 2, 3, 4), HAPPY)
ANALYSIS = ImageAnalysis(640, 480, (FACE,), servable=NANO)


def error(code: StatusCode, reason: str = "", message: str = "") -> FerserveError:
    return error_of(ErrorFacts(code, reason, message))


UNREADABLE = error(StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE", "cannot be decoded")
FAILED_FACE = DetectedFace(BoundingBox(1, 2, 3, 4), error=error(StatusCode.INTERNAL, "INFERENCE_FAILED", "nan"))


def test_an_analysed_picture_is_one_object() -> None:
    assert analysis_record("a.jpg", ANALYSIS) == {
        "source": "a.jpg",
        "width": 640,
        "height": 480,
        "faces": [
            {
                "box": {"left": 1, "top": 2, "width": 3, "height": 4},
                "score": 0.0,
                "emotion": "happy",
                "confidence": 0.75,
                "scores": {"happy": 0.75, "sad": 0.25},
                "uncertain": False,
            }
        ],
        "omitted_face_count": 0,
        "model": {"name": "fer-nano", "version": 3},
    }


def test_a_face_tells_its_track_landmarks_and_raw_scores_where_there_are_some() -> None:
    points = Landmarks((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (9.0, 10.126))
    raw = Prediction("sad", 0.6, {"happy": 0.4, "sad": 0.6})
    face = DetectedFace(
        BoundingBox(1, 2, 3, 4), HAPPY, score=0.97, landmarks=points, not_a_face=True, raw=raw, track_id=3
    )

    (record,) = analysis_record("a.jpg", ImageAnalysis(9, 9, (face,)))["faces"]

    assert record["landmarks"]["right_mouth"] == [9.0, 10.13]
    assert record["raw"] == {"emotion": "sad", "confidence": 0.6, "scores": {"happy": 0.4, "sad": 0.6}}
    assert (record["score"], record["not_a_face"], record["track_id"]) == (0.97, True, 3)


@pytest.mark.parametrize("answer", [UNREADABLE, ImageAnalysis(error=UNREADABLE)])
def test_a_picture_without_an_analysis_says_why(answer: ImageAnalysis | FerserveError) -> None:
    assert analysis_record("a.jpg", answer) == {
        "source": "a.jpg",
        "failure": {"code": "INVALID_ARGUMENT", "reason": "IMAGE_UNREADABLE", "message": "cannot be decoded"},
    }


def test_a_face_that_failed_says_why_beside_its_box() -> None:
    (face,) = analysis_record("a.jpg", ImageAnalysis(9, 9, (FAILED_FACE,)))["faces"]

    assert face["box"] == {"left": 1, "top": 2, "width": 3, "height": 4}
    assert face["failure"]["reason"] == "INFERENCE_FAILED"
    assert "emotion" not in face


def test_a_crop_is_one_object() -> None:
    assert classification_record("a.png", HAPPY, NANO) == {
        "source": "a.png",
        "emotion": "happy",
        "confidence": 0.75,
        "scores": {"happy": 0.75, "sad": 0.25},
        "uncertain": False,
        "model": {"name": "fer-nano", "version": 3},
    }
    assert set(classification_record("a.png", UNREADABLE, NANO)) == {"source", "failure"}


def test_a_frame_is_analysed_dropped_unchanged_or_failed() -> None:
    event = TrackEvent("changed", 3, 1.25, 0.5, HAPPY)
    answer = FrameAnswer(4, analysis=ANALYSIS, time_s=1.5, age_ms=12.34, events=(event,), tracks_restarted=True)

    analysed = frame_record("0", 0.25, answer)
    dropped = frame_record("0", 0.25, FrameAnswer(4, newer_sequence_id=5))
    unchanged = frame_record("0", 0.25, FrameAnswer(4, unchanged=True))
    failed = frame_record("0", 0.25, FrameAnswer(4, error=UNREADABLE))

    assert (analysed["sequence_id"], analysed["time_s"], analysed["age_ms"], analysed["lag_ms"]) == (
        4,
        1.5,
        12.3,
        250,
    )
    assert analysed["events"] == [
        {
            "event": "changed",
            "track_id": 3,
            "time_s": 1.25,
            "duration_s": 0.5,
            "emotion": "happy",
            "confidence": 0.75,
            "scores": {"happy": 0.75, "sad": 0.25},
        }
    ]
    assert analysed["tracks_restarted"] is True
    assert (dropped["dropped"], dropped["newer_sequence_id"], "faces" in dropped) == (True, 5, False)
    assert (unchanged["unchanged"], unchanged["dropped"]) == (True, False)
    assert failed["failure"]["reason"] == "IMAGE_UNREADABLE"


def test_a_file_that_cannot_be_read_has_a_reason_of_its_own(tmp_path: Path) -> None:
    (picture,) = read_pictures([tmp_path / "missing.jpg"])

    record = failure_record(picture.error)

    assert (record["reason"], record["message"]) == ("FILE_UNREADABLE", "No such file or directory")


def test_a_file_that_fits_no_request_is_not_sent(tmp_path: Path) -> None:
    huge = tmp_path / "huge.jpg"
    huge.touch()
    os.truncate(huge, MAX_REQUEST_BYTES + 1)

    (picture,) = read_pictures([huge])

    assert picture.data == b""
    assert "above" in str(picture.error)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (error(StatusCode.UNAVAILABLE, "", "last error: Connection refused"), "no server answers at host:1"),
        (error(StatusCode.UNAVAILABLE, "DRAINING", "shutting down"), "shutting down"),
        (error(StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "no model x"), "ferserve models"),
        (error(StatusCode.DEADLINE_EXCEEDED, "", "late"), "within 2.5 s"),
        (error(StatusCode.INTERNAL), "INTERNAL"),
    ],
)
def test_every_failure_is_reported_with_what_to_do(failure: FerserveError, words: str) -> None:
    assert words in explain(failure, "host:1", 2.5)


def test_of_grpcs_account_the_cause_is_kept() -> None:
    assert cause_of("failed: last error: UNKNOWN: ipv4:1: Connection refused") == "Connection refused"
    assert "TLS" in cause_of("ipv4:1: Ssl handshake failed: SSL_ERROR_SSL: OK")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    for name in ("a.jpg", "a-2.jpg"):
        (tmp_path / name).touch()

    assert free_path(tmp_path / "a.jpg") == tmp_path / "a-3.jpg"
    assert free_path(tmp_path / "b.jpg") == tmp_path / "b.jpg"


def test_a_table_has_a_row_a_face_and_one_for_none() -> None:
    both = ImageAnalysis(640, 480, (FACE, FAILED_FACE), servable=NANO)
    two = list(frame_rows("v.mp4", FrameAnswer(7, analysis=both, time_s=0.5)))
    none = list(frame_rows("v.mp4", FrameAnswer(8, newer_sequence_id=9, time_s=0.5)))

    assert [row["face"] for row in two] == [1, 2]
    assert (two[0]["score_happy"], two[0]["outcome"], two[1]["outcome"]) == (0.75, "analyzed", "INFERENCE_FAILED")
    assert "emotion" not in two[1]
    assert none == [{"source": "v.mp4", "sequence_id": 8, "time_s": 0.5, "outcome": "dropped"}]
    assert all(set(row) <= set(FRAME_COLUMNS) for row in [*two, *none])


def watched(answer: FrameAnswer) -> WatchedFrame:
    frame = VideoFrame(
        answer.sequence_id, answer.time_s, (640, 480), 0.0, lambda: np.zeros((480, 640, 3), np.uint8)
    )
    return WatchedFrame(0, "v.mp4", frame, answer, 0.1)


def test_dropped_frames_are_answered_and_failed_ones_are_not() -> None:
    summary = Summary()
    summary.show(watched(FrameAnswer(0, analysis=ANALYSIS)))
    summary.show(watched(FrameAnswer(1, newer_sequence_id=2)))
    assert summary.all_answered

    summary.show(watched(FrameAnswer(2, error=UNREADABLE)))
    assert not summary.all_answered
    assert summary.rows() == [["v.mp4", "3", "1", "1", "1", "1", "happy 1"]]


def test_a_source_with_a_problem_is_not_answered_whole() -> None:
    summary = Summary()
    summary.end_source(SourceReport(0, "v.mp4", ("the video is damaged",)))

    assert not summary.all_answered
    assert summary.problems() == ["v.mp4: the video is damaged"]


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("0", SourceKind.CAMERA),
        ("12", SourceKind.CAMERA),
        ("rtsp://host/stream", SourceKind.URL),
        ("http://host/a.mp4", SourceKind.URL),
        ("video.mp4", SourceKind.FILE),
        ("./0", SourceKind.FILE),
    ],
)
def test_a_source_is_known_by_its_looks(where: str, kind: SourceKind) -> None:
    assert kind_of(where) is kind


@pytest.mark.parametrize(
    ("environment", "platform", "has_one"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ""}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "darwin", True),
        ({}, "win32", True),
    ],
)
def test_a_display_is_looked_for_where_it_can_be_missing(environment, platform, has_one) -> None:
    assert has_display(environment, platform) is has_one


def test_frames_are_shrunk_in_proportion() -> None:
    assert fitted_size(3840, 2160, 1280) == (1280, 720)
    assert fitted_size(640, 360, 1280) == (640, 360)
    assert fitted_size(5000, 2, 100) == (100, 1)


def test_a_frame_is_encoded_as_a_jpeg_no_larger_than_asked() -> None:
    import cv2  # noqa: PLC0415 - OpenCV is for those tests that need it

    frame = np.full((100, 400, 3), 128, np.uint8)

    colour = FrameEncoder(max_side=200).encode(frame)
    grey = FrameEncoder(max_side=200, grey=True).encode(frame)

    assert cv2.imdecode(np.frombuffer(colour, np.uint8), cv2.IMREAD_UNCHANGED).shape == (50, 200, 3)
    assert cv2.imdecode(np.frombuffer(grey, np.uint8), cv2.IMREAD_UNCHANGED).shape == (50, 200)


def test_drawing_marks_the_face_on_a_copy() -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    box = BoundingBox(40, 50, 20, 30)

    drawn = annotate(frame, ImageAnalysis(100, 100, (DetectedFace(box, HAPPY),)))

    assert not frame.any()
    assert drawn[65, 40].any()
    assert not drawn[65, 50].any()


def test_a_face_that_failed_is_drawn_with_a_question_mark() -> None:
    assert caption(FACE) == "happy 75%"
    assert caption(FAILED_FACE) == "?"


def test_boxes_of_a_shrunk_frame_are_reported_in_the_source() -> None:
    (face,) = scaled(ImageAnalysis(640, 360, (FACE,)), 1920, 1080).faces

    assert face.box == BoundingBox(3, 6, 9, 12)
