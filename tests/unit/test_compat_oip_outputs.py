"""Tests that answers carry one raw entry for every output, in the order asked for."""

from __future__ import annotations

import numpy as np
import pytest

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.prediction import Classification, ScoredFaces
from ferserve_server.domain.servable import ServableId
from ferserve_server.interop.faces import PICTURE_OUTPUTS
from ferserve_server.interop.open_inference.outputs import best_classes, format_response, parse_outputs
from ferserve_server.interop.open_inference.tensors import split_elements
from ferserve_server.interop.pictures import PictureFaces
from support.compat import labels_of, oip

LABELS = ("angry", "happy", "neutral")
SCORES = np.array([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]], np.float32)
FOUND = Classification(ScoredFaces(SCORES), LABELS, ServableId("fer", 12))


def wanting(*names, **parameters):
    request = oip("ModelInferRequest", id="7")
    for name in names:
        output = request.outputs.add(name=name)
        for key, value in parameters.items():
            output.parameters[key].int64_param = value
    return request


def answer(request):
    return format_response(request.id, parse_outputs(request), FOUND)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((), ["probabilities", "labels"]),
        (("labels",), ["labels"]),
        (("labels", "probabilities"), ["labels", "probabilities"]),
    ],
)
def test_every_output_has_its_raw_entry_in_the_order_asked_for(named, expected):
    response = answer(wanting(*named))
    assert [output.name for output in response.outputs] == expected
    assert len(response.raw_output_contents) == len(expected)
    assert not any(output.HasField("contents") for output in response.outputs)
    assert labels_of(response) == ["happy", "neutral"]


def test_the_answer_names_request_model_and_version():
    response = answer(wanting())
    assert (response.id, response.model_name, response.model_version) == ("7", "fer", "12")


def test_probabilities_are_little_endian_floats():
    response = answer(wanting("probabilities"))
    (output,) = response.outputs
    read = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(output.shape)
    assert output.datatype == "FP32"
    assert np.array_equal(read, SCORES)


def test_classification_names_value_index_and_label_best_first():
    response = answer(wanting("probabilities", classification=2))
    (output,) = response.outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [2, 2])
    assert split_elements(response.raw_output_contents[0], 4, "") == [
        b"0.500000:1:happy",
        b"0.250000:0:angry",
        b"0.750000:2:neutral",
        b"0.125000:0:angry",
    ]


def test_more_classes_than_there_are_give_all_of_them():
    assert list(answer(wanting("probabilities", classification=99)).outputs[0].shape) == [2, 3]


def test_equal_scores_stand_in_the_order_of_the_labels():
    assert best_classes(np.full((1, 3), 1 / 3, np.float32), LABELS, 3)[0].endswith(b":0:angry")


@pytest.mark.parametrize(
    "request_",
    [wanting("logits"), wanting("labels", classification=1), wanting("probabilities", classification=-1)],
)
def test_an_output_that_there_is_not_is_rejected(request_):
    with pytest.raises(FerserveError):
        parse_outputs(request_)


def test_counts_and_boxes_are_little_endian_integers_and_there_may_be_none():
    for counts, boxes in (([2, 0], [[1, 2, 3, 4], [5, 6, 7, 8]]), ([0, 0], [])):
        rows = sum(counts)
        found = PictureFaces(
            faces=ScoredFaces(SCORES[:rows]),
            labels=LABELS,
            servable=FOUND.servable,
            face_counts=np.array(counts, np.int32),
            boxes=np.array(boxes, np.int32).reshape(-1, 4),
        )
        response = format_response("7", parse_outputs(wanting(), PICTURE_OUTPUTS), found)
        shapes = {output.name: (output.datatype, list(output.shape)) for output in response.outputs}
        assert shapes == {
            "probabilities": ("FP32", [rows, 3]),
            "labels": ("BYTES", [rows]),
            "face_count": ("INT32", [2]),
            "boxes": ("INT32", [rows, 4]),
        }
        assert len(response.raw_output_contents) == 4
        assert np.frombuffer(response.raw_output_contents[2], "<i4").tolist() == counts
        assert np.frombuffer(response.raw_output_contents[3], "<i4").reshape(-1, 4).tolist() == boxes


def test_boxes_without_detect_say_how_to_get_them():
    with pytest.raises(FerserveError, match="parameter 'detect'"):
        parse_outputs(wanting("boxes"))


def test_an_output_in_shared_memory_is_not_offered():
    request = wanting("labels")
    request.outputs[0].parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(FerserveError, match="Shared memory"):
        parse_outputs(request)
