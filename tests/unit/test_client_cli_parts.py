"""The parts of the command that need no server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from grpc import StatusCode

from ferserve_client import BoundingBox, DetectedFace, FrameAnswer, ImageAnalysis, Prediction, Servable
from ferserve_client.cli.analyze import free_path
from ferserve_client.cli.pictures import MAX_REQUEST_BYTES, read_pictures
from ferserve_client.cli.records import analysis_record, classification_record, error_record, frame_record
from ferserve_client.cli.shots import scaled
from ferserve_client.cli.speaking import cause_of, explain
from ferserve_client.cli.watch_outputs import CSV_COLUMNS, Summary, csv_rows
from ferserve_client.error_table import error_of
from ferserve_client.errors import ErrorFacts, FerserveError
from ferserve_client.video.drawing import annotate, caption
from ferserve_client.video.encoding import FrameEncoder, fitted_size
from ferserve_client.video.sink import has_display
from ferserve_client.video.source import SourceKind, kind_of

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
                "box": [1, 2, 3, 4],
                "emotion": "happy",
                "confidence": 0.75,
                "scores": {"happy": 0.75, "sad": 0.25},
            }
        ],
        "model": "fer-nano",
        "version": 3,
        "error": None,
    }


@pytest.mark.parametrize("answer", [UNREADABLE, ImageAnalysis(error=UNREADABLE)])
def test_a_picture_without_an_analysis_says_why(answer: ImageAnalysis | FerserveError) -> None:
    record = analysis_record("a.jpg", answer)

    assert record["error"] == {"reason": "IMAGE_UNREADABLE", "message": "cannot be decoded"}
    assert (record["width"], record["faces"], record["model"]) == (None, [], None)


def test_a_face_that_failed_says_why_beside_its_box() -> None:
    (face,) = analysis_record("a.jpg", ImageAnalysis(9, 9, (FAILED_FACE,)))["faces"]

    assert (face["box"], face["emotion"]) == ([1, 2, 3, 4], None)
    assert face["error"]["reason"] == "INFERENCE_FAILED"


def test_a_crop_is_one_object() -> None:
    assert classification_record("a.png", HAPPY, NANO) == {
        "source": "a.png",
        "emotion": "happy",
        "confidence": 0.75,
        "scores": {"happy": 0.75, "sad": 0.25},
        "model": "fer-nano",
        "version": 3,
        "error": None,
    }
    assert classification_record("a.png", UNREADABLE, NANO)["model"] is None


def test_a_dropped_frame_says_so_and_others_do_not() -> None:
    dropped = frame_record("0", 1.5, FrameAnswer(4, newer_sequence_id=5))
    analysed = frame_record("0", 1.5, FrameAnswer(4, analysis=ANALYSIS))

    assert dropped["dropped"] is True
    assert (dropped["faces"], dropped["error"]) == ([], None)
    assert "dropped" not in analysed
    assert (analysed["sequence_id"], analysed["time_s"], analysed["width"]) == (4, 1.5, 640)


def test_a_file_that_cannot_be_read_has_a_reason_of_its_own(tmp_path: Path) -> None:
    (picture,) = read_pictures([tmp_path / "missing.jpg"])

    assert error_record(picture.error) == {"reason": "FILE_UNREADABLE", "message": "No such file or directory"}


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
def test_every_failure_is_told_with_what_to_do(failure: FerserveError, words: str) -> None:
    assert words in explain(failure, "host:1", 2.5)


def test_of_grpcs_account_the_cause_is_kept() -> None:
    assert cause_of("failed: last error: UNKNOWN: ipv4:1: Connection refused") == "Connection refused"
    assert "TLS" in cause_of("ipv4:1: Ssl handshake failed: SSL_ERROR_SSL: OK")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    for name in ("a.jpg", "a-2.jpg"):
        (tmp_path / name).touch()

    assert free_path(tmp_path / "a.jpg") == tmp_path / "a-3.jpg"
    assert free_path(tmp_path / "b.jpg") == tmp_path / "b.jpg"


def test_a_csv_has_a_line_a_face_and_one_for_none() -> None:
    two = list(csv_rows(0.5, FrameAnswer(7, analysis=ImageAnalysis(640, 480, (FACE, FAILED_FACE), servable=NANO))))
    none = list(csv_rows(0.5, FrameAnswer(8, newer_sequence_id=9)))

    assert [row["face"] for row in two] == [1, 2]
    assert two[0]["score_happy"] == "0.750000"
    assert "emotion" not in two[1]
    assert none == [{"sequence_id": 8, "time_s": "0.500", "outcome": "dropped"}]
    assert all(set(row) <= set(CSV_COLUMNS) for row in [*two, *none])


def test_dropped_frames_are_answered_and_failed_ones_are_not() -> None:
    summary = Summary()
    shot = None
    summary.show(shot, FrameAnswer(0, analysis=ANALYSIS))  # type: ignore[arg-type]  # it does not look
    summary.show(shot, FrameAnswer(1, newer_sequence_id=2))  # type: ignore[arg-type]  # as above
    assert summary.all_answered

    summary.show(shot, FrameAnswer(2, error=UNREADABLE))  # type: ignore[arg-type]  # as above
    assert not summary.all_answered
    assert summary.emotions == {"happy": 1}


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


def test_boxes_of_a_shrunk_frame_are_told_in_the_source() -> None:
    (face,) = scaled(ImageAnalysis(640, 360, (FACE,)), 1920, 1080).faces

    assert face.box == BoundingBox(3, 6, 9, 12)
