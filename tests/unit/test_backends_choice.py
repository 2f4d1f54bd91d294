"""Selects engines where packages are missing."""

import sys

import pytest

from ferserve_server.backends.selection import BackendMissingError, EngineSettings, engine_loader
from ferserve_server.backends.sessions import TensorSpec, check_signature
from ferserve_server.config.settings import SETTINGS, Settings
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import InputSpec, ModelDescription

DESCRIPTION = ModelDescription(("a", "b", "c"), InputSpec("faces", 48, 40))
INPUTS = {"faces": TensorSpec("uint8", (-1, 48, 40, 1))}
OUTPUTS = {"probabilities": TensorSpec("float32", (-1, 3)), "logits": TensorSpec("float32", (-1, 3))}


def _choices():
    return [name for name in SETTINGS["backend"][1].annotation.__args__ if name != "auto"]


@pytest.mark.parametrize("backend", _choices())
def test_every_backend_of_the_settings_has_a_loader_that_takes_no_package_yet(backend):
    assert engine_loader(backend, EngineSettings()).load


@pytest.mark.parametrize(
    ("backend", "extra"),
    [("tensorflow", "[cpu]"), ("onnxruntime", "ferserve-server[onnx]"), ("openvino", "ferserve-server[openvino]")],
)
def test_a_package_that_is_missing_is_named_with_what_brings_it_and_what_there_is(backend, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, backend, None)  # what Python takes for a module that cannot be imported

    with pytest.raises(BackendMissingError) as missing:
        engine_loader(backend, EngineSettings())

    text = str(missing.value)
    assert f"--backend {backend}" in text
    assert extra in text
    there = text.partition("installed: ")[2]
    assert {name for name in _choices() if name in there} == set(_choices()) - {backend}


def test_auto_takes_the_first_installed_engine(monkeypatch):
    assert Settings.of(backend="auto").engine.backend == "tensorflow"
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert Settings.of(backend="auto").engine.backend == "onnxruntime"


def test_a_package_that_a_finder_rejects_counts_as_missing(monkeypatch):
    class Rejects:
        def find_spec(self, fullname, path=None, target=None):
            raise ModuleNotFoundError(fullname)

    for name in ("onnxruntime", "openvino", "tensorflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Rejects()])

    with pytest.raises(BackendMissingError, match="installed: none"):
        engine_loader("onnxruntime", EngineSettings())


def test_a_model_that_is_what_its_manifest_says_is_taken():
    check_signature(INPUTS, OUTPUTS, DESCRIPTION)


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({}, OUTPUTS, "inputs are"),
        (INPUTS | {"more": TensorSpec("uint8", ())}, OUTPUTS, "inputs are"),
        ({"faces": TensorSpec("float32", (-1, 48, 40, 1))}, OUTPUTS, "input is float32"),
        ({"faces": TensorSpec("uint8", (1, 48, 40, 1))}, OUTPUTS, "input is uint8"),
        ({"faces": TensorSpec("uint8", ())}, OUTPUTS, "input is uint8"),
        (INPUTS, {"logits": OUTPUTS["logits"]}, "no output"),
        (INPUTS, {"probabilities": TensorSpec("float32", (-1, 4))}, "one score per label"),
        (INPUTS, {"probabilities": TensorSpec("float32", ())}, "one score per label"),
    ],
)
def test_a_model_that_is_something_else_is_rejected(inputs, outputs, words):
    with pytest.raises(ModelRejectedError, match=words) as rejected:
        check_signature(inputs, outputs, DESCRIPTION)

    assert rejected.value.reason == "SIGNATURE_MISMATCH"
