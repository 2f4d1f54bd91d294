"""Tests TensorFlow Serving's interface over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from ferserve_server.interop.messages import message_class
from support.compat import MODEL_STATUS, PREDICTION, call, crops, tfs
from support.fake_models import publish_fake
from support.local_server import LocalServer, local_server, rejection_of
from support.model_factory import LABELS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalServer]:
    publish_fake(tmp_path, version=3)
    publish_fake(tmp_path, version=4, golden_off_by=0.5)
    async with local_server(tmp_path) as running:
        yield running


def predict_request(*classes, **fields):
    request = tfs("PredictRequest", **fields)
    tensor = request.inputs["faces"]
    faces = crops(*classes)
    tensor.dtype, tensor.tensor_content = 4, faces.tobytes()
    for size in faces.shape:
        tensor.tensor_shape.dim.add(size=size)
    return request


async def ask(server, method, request, service=PREDICTION):
    return await call(server.channel, service, method, request, f"tensorflow.serving.{method}Response")


async def test_faces_are_classified(server):
    response = await ask(server, "Predict", predict_request(3, 0, model_spec={"name": "fer-nano"}))
    assert response.outputs["labels"].string_val == [LABELS[3].encode(), LABELS[0].encode()]
    assert [dim.size for dim in response.outputs["probabilities"].tensor_shape.dim] == [2, 7]
    assert sum(response.outputs["probabilities"].float_val[:7]) == pytest.approx(1)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("fer-nano", 3, "serving_default")


async def test_the_filter_picks_outputs(server):
    response = await ask(server, "Predict", predict_request(3, output_filter=["probabilities"]))
    assert set(response.outputs) == {"probabilities"}


async def test_a_version_may_be_asked_for(server):
    spec = tfs("ModelSpec", name="fer-nano")
    spec.version.value = 3
    assert set((await ask(server, "Predict", predict_request(1, model_spec=spec))).outputs) == {
        "labels",
        "probabilities",
    }


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"name": "other"}, grpc.StatusCode.NOT_FOUND),
        ({"version": {"value": 9}}, grpc.StatusCode.NOT_FOUND),
        ({"version": {"value": 0}}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"version": {"value": -1}}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"signature_name": "other"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"version_label": "canary"}, grpc.StatusCode.NOT_FOUND),
        ({"version_label": "1"}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_a_model_that_there_is_not_has_its_status(server, spec, code):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(server, "Predict", predict_request(1, model_spec=spec))
    assert rejection_of(caught.value).code is code


async def test_the_signature_tells_inputs_and_outputs(server):
    request = tfs("GetModelMetadataRequest", model_spec={"name": "fer-nano"}, metadata_field=["signature_def"])
    response = await ask(server, "GetModelMetadata", request)
    held = response.metadata["signature_def"]
    assert held.type_url.endswith("/tensorflow.serving.SignatureDefMap")
    signatures = message_class("tensorflow.serving.SignatureDefMap").FromString(held.value).signature_def
    signature = signatures["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in signature.inputs["faces"].tensor_shape.dim] == [-1, 48, 48, 1]
    assert set(signature.outputs) == {"probabilities", "labels"}


async def test_no_other_metadata_is_known(server):
    with pytest.raises(grpc.aio.AioRpcError, match="signature_def"):
        await ask(server, "GetModelMetadata", tfs("GetModelMetadataRequest", metadata_field=["variables"]))


async def test_the_status_tells_what_became_of_versions(server):
    request = tfs("GetModelStatusRequest", model_spec={"name": "fer-nano"})
    response = await ask(server, "GetModelStatus", request, MODEL_STATUS)
    reported = {each.version: (each.state, each.status.error_code) for each in response.model_version_status}
    assert reported == {3: (30, 0), 4: (50, 9)}
    request.model_spec.version.value = 3
    response = await ask(server, "GetModelStatus", request, MODEL_STATUS)
    assert [each.version for each in response.model_version_status] == [3]
    request.model_spec.version.value = 9
    with pytest.raises(grpc.aio.AioRpcError, match="no version 9"):
        await ask(server, "GetModelStatus", request, MODEL_STATUS)
