"""Writes `assets.extra/model.onnx`, with the SavedModel's inputs and outputs."""

import importlib.util
from pathlib import Path
from typing import Final

import keras
import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from ferserve_training.errors import RunError
from ferserve_training.export.onnx_folded import add_folded
from ferserve_training.export.onnx_graph import OnnxGraph
from ferserve_training.export.onnx_layers import add_layers
from ferserve_training.export.onnx_weights import OnnxWeights
from ferserve_training.export.saved_model import INPUT_NAME, LOGITS_NAME, NOT_A_FACE_NAME, PROBABILITIES_NAME
from ferserve_training.labels import CLASS_COUNT
from ferserve_training.nets.folding import FoldedNet

ONNX_PATH: Final = "assets.extra/model.onnx"
ALLOWED_DIFFERENCE: Final = {OnnxWeights.FLOAT32: 1e-4, OnnxWeights.INT16: 5e-4}
"""Of probabilities, by what the weights are stored as.

On 256 drawn faces float32 makes 2.3e-6 of it, int16 9.3e-5, both for fer-nano, which has the most. 5e-4 is half
of what the server allows a version to be off from its golden scores.
"""


def onnx_model_of(
    net: FoldedNet | keras.Model, temperature: float, name: str, weights: OnnxWeights = OnnxWeights.FLOAT32
) -> onnx.ModelProto:
    """Write a net as ONNX: `faces`, uint8 [N, 48, 48, 1], to `probabilities` and `logits`, float32 [N, 7].

    A net with a head for images that are no faces also answers with `not_a_face`, float32 [N].

    Args:
        net: What `write_saved_model` takes.
        temperature: Divides the logits; above 0.
        name: Of the model.
        weights: What they are stored as.

    Raises:
        TrainingError: The net has a layer that is not known here.
    """
    graph = OnnxGraph(weights)
    grey = graph.add("Cast", INPUT_NAME, to=onnx.TensorProto.FLOAT)
    images = graph.add("Transpose", grey, perm=[0, 3, 1, 2])
    if isinstance(net, FoldedNet):
        raw, not_a_face = add_folded(graph, net, images)
    else:
        raw, not_a_face = add_layers(graph, net, images), None
    logits = graph.add("Identity", raw, name=LOGITS_NAME)
    scaled = graph.add("Div", logits, graph.constant(temperature))
    graph.add("Softmax", scaled, axis=-1, name=PROBABILITIES_NAME)
    widths: dict[str, int | None] = {PROBABILITIES_NAME: CLASS_COUNT, LOGITS_NAME: CLASS_COUNT}
    if not_a_face is not None:
        axis = graph.constant([1], np.int64)
        graph.add("Squeeze", graph.add("Sigmoid", not_a_face), axis, name=NOT_A_FACE_NAME)
        widths[NOT_A_FACE_NAME] = None
    return graph.finish(name, INPUT_NAME, widths)


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write the file whole; its folder must exist."""
    path.write_bytes(model.SerializeToString())


def check_onnx(
    path: Path,
    faces: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float32],
    weights: OnnxWeights = OnnxWeights.FLOAT32,
) -> float:
    """Compare a file's answers with those of the SavedModel.

    Args:
        path: The file.
        faces: uint8 [N, 48, 48, 1].
        probabilities: Of the SavedModel, float32 [N, 7].
        weights: What the file stores them as.

    Returns:
        The largest difference of a probability.

    Raises:
        RunError: It is above what `ALLOWED_DIFFERENCE` says.
    """
    difference = float(np.abs(run_onnx(path, faces)[0] - probabilities).max())
    if not difference <= ALLOWED_DIFFERENCE[weights]:  # written so that NaN fails too
        raise RunError(f"{path.name} differs from the SavedModel by {difference:.2g} in a probability")
    return difference


def run_onnx(path: Path, faces: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Score faces with ONNX Runtime where it is installed, else with ONNX's own slow reference.

    Args:
        path: The file.
        faces: uint8 [N, 48, 48, 1].

    Returns:
        Probabilities and logits, float32 [N, 7] each.
    """
    names = [PROBABILITIES_NAME, LOGITS_NAME]
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime  # noqa: PLC0415  # optional

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        probabilities, logits = session.run(names, {INPUT_NAME: faces})
    else:
        probabilities, logits = ReferenceEvaluator(str(path)).run(names, {INPUT_NAME: faces})
    return np.asarray(probabilities), np.asarray(logits)
