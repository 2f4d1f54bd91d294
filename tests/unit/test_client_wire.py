"""Tests building requests and reading answers."""

from __future__ import annotations

import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, failure_pb2, model_service_pb2
from ferserve_client import (
    BoundingBox,
    DetectionOptions,
    Emotion,
    FerserveError,
    Frame,
    ImageUnreadableError,
    Prediction,
    ServableState,
)
from ferserve_client.servables import Servable
from ferserve_client.wire import requests, responses
from ferserve_client.wire.stream_responses import BatchAnswerReader, FrameAnswerReader
from support.scripted_server import LABELS, SERVABLE, UNREADABLE, analysis, model, prediction


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 4, 6, 1)])
def test_faces_are_packed_row_by_row(shape: tuple[int, ...]) -> None:
    faces = np.arange(48, dtype=np.uint8)

    packed = requests.packed_faces(faces.reshape(shape))

    assert (packed.face_count, packed.height, packed.width) == (2, 4, 6)
    assert packed.pixels == faces.tobytes()


def test_one_face_needs_no_batch_dimension() -> None:
    packed = requests.packed_faces(np.zeros((48, 40), np.uint8))

    assert (packed.face_count, packed.height, packed.width) == (1, 48, 40)


def test_a_view_is_packed_as_it_looks_and_not_as_it_lies() -> None:
    faces = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)

    packed = requests.packed_faces(faces[:, ::-1, ::2])

    assert list(packed.pixels) == [12, 14, 8, 10, 4, 6, 0, 2]


def test_scaled_faces_are_rejected() -> None:
    with pytest.raises(TypeError, match=r"uint8.*float32"):
        requests.packed_faces(np.zeros((1, 48, 48), np.float32))  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("shape", [(48,), (1, 48, 48, 3), (1, 1, 48, 48, 1)])
def test_other_shapes_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shaped"):
        requests.packed_faces(np.zeros(shape, np.uint8))


def test_pictures_go_as_encoded_faces() -> None:
    request = requests.classify_request([b"one", b"two"], "fer", 3, "bulk")

    assert list(request.encoded.images) == [b"one", b"two"]
    assert (request.model.name, request.model.version) == ("fer", 3)
    assert request.priority == emotion_pb2.PRIORITY_BULK


def test_no_pictures_are_still_encoded_faces() -> None:
    """So that the server says FACES_REQUIRED, the one rule of what is too few."""
    assert requests.classify_request([], "", None, "interactive").WhichOneof("faces") == "encoded"


def test_the_newest_version_is_asked_for_by_leaving_it_out() -> None:
    assert requests.model_spec("fer", None).WhichOneof("choice") is None


@pytest.mark.parametrize("images", [b"one picture", "path.jpg", [b"fine", "path.jpg"], 5])
def test_what_is_no_list_of_pictures_is_rejected(images: object) -> None:
    with pytest.raises(TypeError, match="bytes"):
        requests.analyze_request(images, "", None, "interactive", None)  # type: ignore[arg-type]  # the mistake


def test_a_word_that_is_no_priority_is_rejected_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"priority must be one of interactive, bulk, not 'high'"):
        requests.classify_request([b"x"], "", None, "high")  # type: ignore[arg-type]  # the mistake


def test_detection_options_left_out_take_the_servers() -> None:
    assert requests.detection_options(DetectionOptions()) == face_pb2.DetectionOptions(
        face_source=face_pb2.FACE_SOURCE_DETECT
    )


def test_a_face_that_failed_stands_in_its_place() -> None:
    response = emotion_pb2.ClassifyFacesResponse(
        results=[
            emotion_pb2.FaceResult(prediction=prediction(3)),
            emotion_pb2.FaceResult(failure=UNREADABLE),
        ],
        labels=LABELS,
        servable=SERVABLE,
    )

    results = responses.read_classification(response)

    assert isinstance(results[0], Prediction)
    assert results[0].emotion == Emotion.HAPPY
    assert results[0].confidence == pytest.approx(0.7)
    assert results[0].scores["happy"] == results[0].confidence
    assert list(results[0].scores) == list(Emotion)
    assert isinstance(results[1], ImageUnreadableError)
    assert results.servable == Servable("fer-nano", 3)
    with pytest.raises(ImageUnreadableError):
        responses.raise_first_error(results)


def test_scores_that_do_not_fit_the_labels_are_rejected() -> None:
    with pytest.raises(ValueError, match="longer"):
        responses.read_prediction(prediction(3), LABELS[:5])
    with pytest.raises(ValueError, match="label_index"):
        responses.read_prediction(face_pb2.Prediction(label_index=7, scores=[0.5] * 7), LABELS)


def test_a_picture_that_failed_leaves_its_neighbours() -> None:
    response = emotion_pb2.AnalyzeImagesResponse(
        results=[
            emotion_pb2.ImageResult(failure=UNREADABLE),
            emotion_pb2.ImageResult(analysis=analysis(b"\x03")),
        ],
        labels=LABELS,
        servable=SERVABLE,
    )

    broken, fine = responses.read_analyses(response)

    assert isinstance(broken.error, ImageUnreadableError)
    assert broken.faces == ()
    assert (fine.width, fine.height, fine.error) == (640, 480, None)
    assert fine.faces[0].box == BoundingBox(10, 20, 30, 40)
    assert fine.faces[0].prediction is not None
    assert fine.faces[0].prediction.emotion == "happy"


def test_labels_of_a_stream_are_remembered_until_they_change() -> None:
    reader = FrameAnswerReader()

    def answer(sequence_id: int, labels: tuple[str, ...]) -> str:
        read = reader.read(
            emotion_pb2.StreamFramesResponse(
                sequence_id=sequence_id, analysis=analysis(b"\x03"), labels=labels, servable=SERVABLE
            )
        )
        assert read.analysis is not None
        assert read.analysis.faces[0].prediction is not None
        return read.analysis.faces[0].prediction.emotion

    assert answer(0, LABELS) == "happy"
    assert answer(1, ()) == "happy"
    assert answer(2, LABELS[::-1]) == "happy"
    assert answer(3, (*LABELS[3:], *LABELS[:3])) == "neutral"
    assert answer(4, ()) == "neutral"


def test_a_frame_is_analysed_dropped_or_failed() -> None:
    reader = FrameAnswerReader()

    dropped = reader.read(
        emotion_pb2.StreamFramesResponse(sequence_id=4, dropped=emotion_pb2.FrameDropped(newer_sequence_id=5))
    )
    failed = reader.read(emotion_pb2.StreamFramesResponse(sequence_id=5, failure=UNREADABLE))

    assert (dropped.sequence_id, dropped.dropped, dropped.newer_sequence_id) == (4, True, 5)
    assert (dropped.analysis, dropped.servable, dropped.error) == (None, None, None)
    assert (failed.dropped, failed.analysis) == (False, None)
    assert isinstance(failed.error, ImageUnreadableError)


def test_a_batch_that_failed_leaves_the_stream() -> None:
    reader = BatchAnswerReader()
    predictions = [prediction(0), prediction(1)]

    fine = reader.read(
        emotion_pb2.ClassifyStreamResponse(
            sequence_id=0, predictions=predictions, labels=LABELS, servable=SERVABLE
        )
    )
    failed = reader.read(emotion_pb2.ClassifyStreamResponse(sequence_id=1, failure=UNREADABLE))

    assert [item.emotion for item in fine.predictions] == ["angry", "disgust"]
    assert isinstance(failed.error, FerserveError)
    assert failed.predictions == ()


def test_what_is_not_known_of_a_model_is_none() -> None:
    ready, failed = responses.read_model(model("fer-nano")).versions

    assert (ready.state, ready.mac_count, ready.parameter_count) == (ServableState.READY, None, 120_000)
    assert failed.state is ServableState.FAILED
    assert failed.error is not None
    assert failed.error.message == "checksum differs"


def test_folders_that_are_no_version_are_listed_with_their_reason() -> None:
    message = model("fer-nano")
    message.skipped_folders.add(
        folder="v2", failure=failure_pb2.Failure(reason="VERSION_NAME_INVALID", message="a version is a number")
    )

    (skipped,) = responses.read_model(message).skipped_folders

    assert (skipped.folder, skipped.error.reason) == ("v2", "VERSION_NAME_INVALID")


def test_how_a_version_runs_is_reported_once_it_is_ready() -> None:
    ready, failed = responses.read_model(model("fer-nano")).versions

    assert (ready.precision, ready.bfloat16_speedup) == ("bfloat16", 1.5)
    assert list(ready.latency_ms.items()) == [(1, 0.5), (8, 1.0), (64, 4.0)]
    assert (failed.precision, failed.bfloat16_speedup, failed.latency_ms) == (None, None, {})


def test_every_state_of_the_proto_is_known() -> None:
    for name, number in model_service_pb2.ServableState.items():
        known = responses.read_model(
            model_service_pb2.Model(versions=[model_service_pb2.ModelVersion(version=1, state=number)])
        )
        wanted = name.removeprefix("SERVABLE_STATE_").lower()
        assert known.versions[0].state == wanted.replace("unspecified", "unknown")


def test_a_state_and_a_precision_of_tomorrow_are_unknown() -> None:
    version = model_service_pb2.ModelVersion(version=1, precision=99)  # type: ignore[arg-type]
    tomorrow = model_service_pb2.Model(versions=[version])

    assert responses.read_model(tomorrow).versions[0].state is ServableState.UNKNOWN
    assert responses.read_model(tomorrow).versions[0].precision is None


def test_a_frame_keeps_its_number() -> None:
    request = requests.frame_request(Frame(12, b"jpeg"))

    assert (request.frame.sequence_id, request.frame.image) == (12, b"jpeg")
