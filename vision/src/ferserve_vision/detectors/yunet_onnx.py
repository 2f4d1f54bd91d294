"""Runs YuNet's network in ONNX Runtime, which takes a third of the time that OpenCV takes for it.

ONNX Runtime is not a dependency: it is used where it is installed and measured faster.
"""

from __future__ import annotations

import importlib
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ferserve_vision.detectors.yunet_file import YunetUnavailableError
from ferserve_vision.opencv import cv2

if TYPE_CHECKING:
    from ferserve_vision.detectors.yunet import YunetNetwork
    from ferserve_vision.opencv import GreyImage

Floats = npt.NDArray[np.float32]

STRIDES: Final = (8, 16, 32)
"""Pixels between the network's anchors, one for each of its three outputs of a kind."""

_FIXED_AXES: Final = b"\n\x02\x08\x01\n\x02\x08\x03\n\x03\x08\x80\x05\n\x03\x08\x80\x05"
"""The input's shape in the file, 1x3x640x640, as protobuf writes TensorShapeProto."""

_OPEN_AXES: Final = b"\n\x02\x08\x01\n\x02\x08\x03\n\x03\x12\x01h\n\x03\x12\x01w"
"""The same with two names in place of 640: of the same length, so that no other length in the file changes."""

_OUTPUTS: Final = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES)
_NMS_THRESHOLD: Final = 0.3
_MAX_CANDIDATES: Final = 1000
_COMPARED_SIDES: Final = (384, 512)
_COMPARED_RUNS: Final = 5


class OnnxRuntimeNetwork:
    """Implements `yunet.YunetNetwork`. One thread at a time.

    The decoding of its outputs follows OpenCV's `FaceDetectorYN` (modules/objdetect/src/face_detect.cpp).
    """

    def __init__(self, model: bytes) -> None:
        """Opens a session on one thread.

        Raises:
            ModuleNotFoundError: ONNX Runtime is not installed.
            YunetUnavailableError: The file's axes are not where they are expected.
        """
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it is made for each shape, and shapes vary
        options.log_severity_level = 4  # the outputs' fixed shapes are not those that come, it would say
        self._session: Any = runtime.InferenceSession(
            with_open_axes(model), options, providers=["CPUExecutionProvider"]
        )

    def run(self, image: GreyImage, score_threshold: float) -> list[list[float]]:
        """Finds faces in uint8 [H, W] with sides that 32 divides; see `yunet.YunetNetwork`."""
        blob = np.broadcast_to(image.astype(np.float32), (1, 3, *image.shape))
        outputs = dict(
            zip(_OUTPUTS, self._session.run(_OUTPUTS, {"input": np.ascontiguousarray(blob)}), strict=True)
        )
        rows = np.concatenate([_rows(outputs, stride, image.shape, score_threshold) for stride in STRIDES])
        if not len(rows):
            return []
        boxes = rows[:, :4].astype(np.int32).tolist()
        kept = cv2.dnn.NMSBoxes(
            boxes, rows[:, 14].tolist(), score_threshold, _NMS_THRESHOLD, top_k=_MAX_CANDIDATES
        )
        found: list[list[float]] = rows[np.asarray(kept, np.intp).reshape(-1)].tolist()
        return found


def with_open_axes(model: bytes) -> bytes:
    """Makes height and width of the file's input free, which are 640 in it.

    Raises:
        YunetUnavailableError: The input's shape is not in the file exactly once.
    """
    if model.count(_FIXED_AXES) != 1:
        raise YunetUnavailableError("the ONNX file's input is not 1x3x640x640")
    return model.replace(_FIXED_AXES, _OPEN_AXES)


def is_faster(candidate: YunetNetwork, other: YunetNetwork) -> bool:
    """Compares two networks on a blank picture, alternately, by the processor time of this thread."""
    blank = np.zeros(_COMPARED_SIDES, np.uint8)
    spent_s: dict[YunetNetwork, list[float]] = {candidate: [], other: []}
    for _ in range(_COMPARED_RUNS):
        for each, times in spent_s.items():
            started = time.thread_time()
            each.run(blank, 1.0)
            times.append(time.thread_time() - started)
    return min(spent_s[candidate]) < min(spent_s[other])


def _rows(outputs: dict[str, Floats], stride: int, shape: tuple[int, ...], score_threshold: float) -> Floats:
    """Decodes the faces of one stride: float32 [N, 15], box, five points and score."""
    certain = np.clip(outputs[f"cls_{stride}"][0, :, 0], 0, 1) * np.clip(outputs[f"obj_{stride}"][0, :, 0], 0, 1)
    chosen = np.flatnonzero(certain >= score_threshold**2)
    places = _places(shape[0] // stride, shape[1] // stride)[chosen]
    box, points = outputs[f"bbox_{stride}"][0, chosen], outputs[f"kps_{stride}"][0, chosen]
    rows = np.empty((len(chosen), 15), np.float32)
    rows[:, 2:4] = np.exp(box[:, 2:4]) * stride
    rows[:, :2] = (places + box[:, :2]) * stride - rows[:, 2:4] / 2
    rows[:, 4:14] = (points + np.tile(places, 5)) * stride
    rows[:, 14] = np.sqrt(certain[chosen])
    return rows


@lru_cache(maxsize=64)
def _places(row_count: int, column_count: int) -> Floats:
    """Lists the anchors' columns and rows, float32 [row_count * column_count, 2]."""
    rows, columns = np.divmod(np.arange(row_count * column_count), column_count)
    return np.stack([columns, rows], axis=1).astype(np.float32)
