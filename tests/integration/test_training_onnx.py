"""Tests that ONNX files give the answers of the nets that they were written from."""

import importlib.util
from dataclasses import replace

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx.reference import ReferenceEvaluator

from ferserve_training.errors import RunError, TrainingError
from ferserve_training.evaluation.calibration import softmax
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.onnx_model import check_onnx, onnx_model_of, run_onnx, write_onnx
from ferserve_training.export.onnx_weights import OnnxWeights
from ferserve_training.export.saved_model import write_saved_model
from ferserve_training.loop.scoring import score
from ferserve_training.nets.build import build_net
from ferserve_training.nets.chain import RANDOM_WEIGHTS, ChainSpec
from ferserve_training.nets.folding import fold
from ferserve_training.nets.layers import Average, Backbone, Conv, Dense, Drop, Flatten, Norm, Pool, Relu
from ferserve_training.nets.spec import NetSpec
from ferserve_training.recipes.catalog import RECIPES

_TEMPERATURE = 1.7
_NETS = {
    "fer-nano": RECIPES["fer-nano"].net,
    "fer-base": RECIPES["fer-base"].net,
    "odd maps, rounded up": ChainSpec(
        (Conv(4, padding="valid"), Pool(), Pool("same"), Flatten(), Dense(7, relu=False))
    ),
    "odd maps, rounded down": ChainSpec(
        (
            Conv(4, relu=False),
            Norm(),
            Relu(),
            Conv(6, padding="valid"),
            Pool(),
            Pool(),
            Average(),
            Dense(7, relu=False),
        )
    ),
    "enlarged and coloured": ChainSpec(
        (Conv(4), Pool(), Pool(), Flatten(), Dense(5), Norm(), Drop(0.5), Dense(7, relu=False)), 71, 3
    ),
    "vgg16": ChainSpec(
        (Backbone("vgg16", 3), Flatten(), Dense(7, relu=False)), channels=3, weights=RANDOM_WEIGHTS
    ),
    "resnet50v2": ChainSpec(
        (Backbone("resnet50v2", 9), Norm(), Flatten(), Dense(7, relu=False)), channels=3, weights=RANDOM_WEIGHTS
    ),
}


def _stir(model):
    """Give every batch norm values that matter; fresh ones hide a scale or a mean that was forgotten."""
    draws = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _stir(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(draws.uniform(0.5, 1.5, shape))
            layer.beta.assign(draws.normal(0, 0.3, shape))
            layer.moving_mean.assign(draws.normal(0, 0.3, shape))
            layer.moving_variance.assign(draws.uniform(0.5, 2, shape))


def _build(name):
    net = _NETS[name]
    model = build_net(net, 0)
    _stir(model)
    return model, fold(model, net) if isinstance(net, NetSpec) else model


@pytest.mark.parametrize("name", _NETS)
def test_the_onnx_file_answers_as_the_net(name, tmp_path):
    model, served = _build(name)
    faces = draw_faces(3)
    expected = score(model, faces)

    write_onnx(onnx_model_of(served, _TEMPERATURE, "net"), tmp_path / "model.onnx")

    probabilities, logits = run_onnx(tmp_path / "model.onnx", faces)
    assert (logits.dtype, logits.shape) == (np.float32, (3, 7))
    assert logits == pytest.approx(expected, abs=1e-4)
    assert probabilities == pytest.approx(softmax(expected, _TEMPERATURE), abs=1e-5)
    alone, _ = run_onnx(tmp_path / "model.onnx", faces[1:2])
    assert alone[0] == pytest.approx(probabilities[1], abs=1e-5)


@pytest.mark.parametrize("name", ["fer-base", "enlarged and coloured"])
def test_a_file_with_weights_in_int16_is_half_as_large_and_answers_nearly_the_same(name, tmp_path):
    _, served = _build(name)
    faces = draw_faces(8)
    exact, packed = tmp_path / "exact.onnx", tmp_path / "packed.onnx"
    write_onnx(onnx_model_of(served, _TEMPERATURE, "net"), exact)
    expected, _ = run_onnx(exact, faces)

    write_onnx(onnx_model_of(served, _TEMPERATURE, "net", OnnxWeights.INT16), packed)

    assert packed.stat().st_size < 0.6 * exact.stat().st_size
    assert 0 < check_onnx(packed, faces, expected, OnnxWeights.INT16) < 5e-4


def test_the_file_takes_raw_faces_and_names_the_labels(tmp_path):
    model = onnx_model_of(_build("fer-nano")[1], _TEMPERATURE, "fer-nano")

    (faces,) = model.graph.input
    assert (faces.name, faces.type.tensor_type.elem_type) == ("faces", onnx.TensorProto.UINT8)
    sides = [dim.dim_param or dim.dim_value for dim in faces.type.tensor_type.shape.dim]
    assert sides == ["N", 48, 48, 1]
    assert [output.name for output in model.graph.output] == ["probabilities", "logits"]
    assert {each.key: each.value for each in model.metadata_props}["labels"].startswith("angry,disgust,fear")
    assert model.opset_import[0].version == 18


def test_without_onnx_runtime_the_reference_of_onnx_gives_the_same_answers(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    write_onnx(onnx_model_of(_build("fer-nano")[1], _TEMPERATURE, "fer-nano"), path)
    faces = draw_faces(4)
    fast, _ = run_onnx(path, faces)

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    assert run_onnx(path, faces)[0] == pytest.approx(fast, abs=1e-5)


def test_a_net_with_a_head_for_non_faces_answers_alike_in_onnx(tmp_path):
    net = _NETS["fer-nano"]
    model = build_net(net, 0, with_votes=True, with_not_a_face=True)
    _stir(model)
    served = fold(model, net)
    faces = draw_faces(4)
    write_saved_model(served, _TEMPERATURE, tmp_path / "saved")
    expected = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](faces=tf.constant(faces))
    path = tmp_path / "model.onnx"

    write_onnx(onnx_model_of(served, _TEMPERATURE, "net"), path)

    answers = ReferenceEvaluator(str(path)).run(["probabilities", "not_a_face"], {"faces": faces})
    assert answers[0] == pytest.approx(np.asarray(expected["probabilities"]), abs=1e-5)
    assert answers[1].shape == (4,)
    assert answers[1] == pytest.approx(np.asarray(expected["not_a_face"]), abs=1e-5)


@pytest.mark.parametrize("fault", [1e-3, np.nan])
def test_a_file_that_differs_from_the_saved_model_is_rejected(fault, tmp_path):
    path = tmp_path / "model.onnx"
    write_onnx(onnx_model_of(_build("fer-nano")[1], _TEMPERATURE, "fer-nano"), path)
    faces = draw_faces(4)
    probabilities, _ = run_onnx(path, faces)

    assert check_onnx(path, faces, probabilities) == 0
    probabilities[2, 3] += fault
    with pytest.raises(RunError, match=r"model\.onnx differs from the SavedModel by"):
        check_onnx(path, faces, probabilities)


def test_a_layer_without_a_counterpart_is_named_with_the_way_out():
    inputs = keras.Input((48, 48, 1))
    x = keras.layers.GaussianNoise(1.0)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(7)(keras.layers.Flatten()(x)))

    with pytest.raises(
        TrainingError, match="GaussianNoise has no counterpart in ONNX here: export with --onnx none"
    ):
        onnx_model_of(model, 1.0, "net")


def test_an_activation_without_a_counterpart_is_named():
    model = build_net(replace(_NETS["odd maps, rounded up"]), 0)
    model.layers[-1].activation = keras.activations.tanh

    with pytest.raises(TrainingError, match="the activation tanh has no counterpart"):
        onnx_model_of(model, 1.0, "net")
