"""Makes small real SavedModels with manifest and golden set, as training publishes them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def publish_model(
    repository: Path,
    name: str = "fer-nano",
    version: int = 1,
    *,
    seed: int = 0,
    break_golden: bool = False,
    with_nan: bool = False,
    extra_work: int = 0,
    ballast_mib: int = 0,
    with_variable: bool = False,
    weight_scale: float = 1.0,
    labels: tuple[str, ...] = LABELS,
    onnx: bytes | bool = False,
    not_a_face_threshold: float | None = None,
) -> Path:
    """Publishes a one-layer net with random weights, and returns the version's folder.

    Args:
        repository: The model folder.
        name: Name of the model.
        version: Its version.
        seed: Different seeds give different scores.
        break_golden: The golden set gets scores that the net does not give.
        with_nan: One weight is no number.
        extra_work: Products of two 256 x 256 matrices that each face waits for and that change nothing.
        ballast_mib: MiB of weights that change nothing, and that a version which stays in memory keeps there.
        with_variable: The weights are a variable, so that the SavedModel has a file of variables.
        weight_scale: What the weights are multiplied with: the smaller, the less sure the net is of anything.
        labels: Names of the classes in the manifest.
        onnx: Whether an ONNX file lies beside it; or what lies in its place.
        not_a_face_threshold: Gives the net an output for what is no face, 0.9 for dark crops and 0.1 for others,
            and states this threshold for it.
    """
    import tensorflow as tf  # noqa: PLC0415 - unit tests import this module without TensorFlow

    rng = np.random.default_rng(seed)
    weights = (weight_scale * rng.normal(0, 2, (36, 7))).astype(np.float32)

    ballast = rng.random((256 * ballast_mib, 1024), np.float32)
    if with_nan:
        weights[0, 0] = np.nan

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(weights) if with_variable else tf.constant(weights)

        @tf.function(input_signature=[tf.TensorSpec([None, 48, 48, 1], tf.uint8, name="faces")])
        def __call__(self, faces):
            pooled = tf.nn.avg_pool2d(tf.cast(faces, tf.float32) / 255.0, 8, 8, "VALID")
            logits = tf.linalg.matmul(tf.reshape(pooled, [-1, 36]), self.weights)
            for _ in range(extra_work):
                # The logits go in, so that it cannot be worked out beforehand; 1e-30 of them change no float32.
                square = tf.fill([256, 256], tf.reduce_mean(logits))
                logits += 1e-30 * tf.reduce_mean(tf.linalg.matmul(square, square))
            if ballast_mib:
                row = tf.fill([1, 256 * ballast_mib], tf.reduce_mean(logits))
                logits += 1e-30 * tf.reduce_mean(tf.linalg.matmul(row, tf.constant(ballast)))
            outputs = {"logits": logits, "probabilities": tf.nn.softmax(logits)}
            if not_a_face_threshold is not None:
                dark = tf.reduce_mean(pooled, axis=[1, 2, 3]) < 0.1
                outputs["not_a_face"] = tf.where(dark, 0.9, 0.1)
            return outputs

    net = Net()
    target = repository / name / str(version)
    folder = repository / f".{name}-{version}"
    tf.saved_model.save(net, str(folder), signatures={"serving_default": net.__call__})
    if onnx:
        path = folder / "assets.extra" / "model.onnx"
        path.parent.mkdir()
        path.write_bytes(
            tiny_onnx(weights, with_not_a_face=not_a_face_threshold is not None) if onnx is True else onnx
        )
    faces = rng.integers(0, 256, (8, 48, 48, 1), dtype=np.uint8)
    probabilities = net(faces)["probabilities"].numpy()
    write_extras(
        folder, name, version, faces, np.roll(probabilities, 1, axis=1) if break_golden else probabilities, labels
    )
    if not_a_face_threshold is not None:
        _state_threshold(folder / "assets.extra" / "manifest.json", not_a_face_threshold)
    target.parent.mkdir(exist_ok=True)
    return folder.rename(target)


def _state_threshold(path: Path, threshold: float) -> None:
    document = json.loads(path.read_text())
    document["outputs"]["not_a_face"] = "not_a_face"
    document["decisions"] = {"uncertain_threshold": 0.99, "not_a_face_threshold": threshold}
    path.write_text(json.dumps(document))


def tiny_onnx(weights: np.ndarray, *, sides: tuple[int, int] = (48, 48), with_not_a_face: bool = False) -> bytes:
    """The one-layer net with these weights, float32 [36, 7], as an ONNX file over faces of these sides."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - few tests need it

    constants = {"weights": weights, "white": np.float32(255)}
    nodes = [
        helper.make_node("Cast", ["faces"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["grey", "white"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["image"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 7]) for name in ("probabilities", "logits")
    ]
    if with_not_a_face:
        constants |= {"limit": np.float32(0.1), "dark_score": np.float32(0.9), "light_score": np.float32(0.1)}
        constants["axes"] = np.array([1], np.int64)
        nodes += [
            helper.make_node("ReduceMean", ["flat", "axes"], ["mean"], keepdims=0),
            helper.make_node("Less", ["mean", "limit"], ["dark"]),
            helper.make_node("Where", ["dark", "dark_score", "light_score"], ["not_a_face"]),
        ]
        outputs.append(helper.make_tensor_value_info("not_a_face", TensorProto.FLOAT, ["N"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", *sides, 1])],
        outputs,
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    return bytes(model.SerializeToString())


def write_extras(
    folder: Path,
    name: str,
    version: int,
    faces: np.ndarray,
    probabilities: np.ndarray,
    labels: tuple[str, ...] = LABELS,
) -> None:
    """Writes golden set and manifest beside a SavedModel."""
    extras = folder / "assets.extra"
    extras.mkdir(exist_ok=True)
    np.savez(extras / "golden.npz", faces=faces, probabilities=probabilities)
    (extras / "manifest.json").write_text(
        json.dumps(manifest_document(folder, name, version) | {"labels": list(labels)})
    )


def manifest_document(folder: Path, name: str, version: int) -> dict[str, object]:
    """The manifest of what lies in a folder."""
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    return {
        "format_version": 1,
        "name": name,
        "version": version,
        "labels": list(LABELS),
        "input": {"name": "faces", "dtype": "uint8", "height": 48, "width": 48, "channels": 1},
        "outputs": {"probabilities": "probabilities", "logits": "logits"},
        "mac_count": 252,
        "parameter_count": 252,
        "metrics": {"public_test_accuracy": 0.14},
        "files": files,
    }
