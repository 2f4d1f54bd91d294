"""Tests the Open Inference Protocol over a real socket, and pitfalls of its clients."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ferserve_server.backends.fake import FakeLoader
from ferserve_server.interop.open_inference.tensors import join_elements
from support.compat import (
    INFERENCE,
    MODEL_STATUS,
    PREDICTION,
    ask,
    crops,
    infer_request,
    labels_of,
    oip,
    open_stream,
)
from support.fake_models import publish_fake
from support.local_server import LocalServer, local_server
from support.model_factory import LABELS
from support.pictures import ASTRONAUT, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SLOW_BATCH_S = 0.4


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalServer]:
    publish_fake(tmp_path, version=3)
    async with local_server(tmp_path) as running:
        yield running


async def _code(call) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_server_and_model_are_live_and_ready(server):
    assert (await ask(server.channel, "ServerLive")).live
    assert (await ask(server.channel, "ServerReady")).ready
    assert (await ask(server.channel, "ModelReady", oip("ModelReadyRequest", name="fer-nano"))).ready
    for name, version in (("other", ""), ("fer-nano", "9")):
        request = oip("ModelReadyRequest", name=name, version=version)
        assert not (await ask(server.channel, "ModelReady", request)).ready


async def test_a_server_without_a_model_is_live_but_not_ready(tmp_path):
    async with local_server(tmp_path, ready=False) as server:
        assert (await ask(server.channel, "ServerLive")).live
        assert not (await ask(server.channel, "ServerReady")).ready


async def test_server_metadata_promises_only_what_is_there(server):
    metadata = await ask(server.channel, "ServerMetadata")
    assert metadata.name == "ferserve"
    assert set(metadata.extensions) == {
        "classification",
        "schedule_policy",
        "model_configuration",
        "binary_tensor_data",
        "parameters",
        "statistics",
    }


async def test_every_tensor_of_the_config_is_in_the_metadata(server):
    metadata = await ask(server.channel, "ModelMetadata", oip("ModelMetadataRequest", name="fer-nano"))
    config = (await ask(server.channel, "ModelConfig", oip("ModelConfigRequest", name="fer-nano"))).config
    assert list(metadata.versions) == ["3"]
    assert [each.name for each in config.input] == [each.name for each in metadata.inputs] == ["faces"]
    assert [each.name for each in config.output] == [each.name for each in metadata.outputs]
    assert list(metadata.inputs[0].shape) == [-1, *config.input[0].dims] == [-1, 48, 48, 1]
    assert config.max_batch_size == 512
    assert list(config.dynamic_batching.preferred_batch_size) == [1, 4, 16]
    assert metadata.parameters["labels"].string_param.split(",") == list(LABELS)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
async def test_faces_are_classified(server, raw, dtype):
    response = await ask(
        server.channel, "ModelInfer", infer_request(crops(3, 0, 6).astype(dtype), raw=raw, id="abc")
    )
    assert labels_of(response) == [LABELS[3], LABELS[0], LABELS[6]]
    assert (response.id, response.model_name, response.model_version) == ("abc", "fer-nano", "3")
    scores = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(response.outputs[0].shape)
    assert scores.argmax(axis=1).tolist() == [3, 0, 6]


async def test_encoded_crops_are_classified(server):
    request = oip("ModelInferRequest", model_name="fer-nano")
    face = crops(5)[0, :, :, 0]
    tensor = request.inputs.add(name="images", datatype="BYTES", shape=[2])
    tensor.contents.bytes_contents.extend([encode(face, "PNG"), encode(face, "PNG")])
    assert labels_of(await ask(server.channel, "ModelInfer", request)) == [LABELS[5]] * 2


async def test_one_unreadable_crop_fails_the_request(server):
    request = oip("ModelInferRequest")
    tensor = request.inputs.add(name="images", datatype="BYTES", shape=[2])
    tensor.contents.bytes_contents.extend([encode(crops(5)[0, :, :, 0], "PNG"), b"no picture"])
    assert await _code(ask(server.channel, "ModelInfer", request)) is grpc.StatusCode.INVALID_ARGUMENT


def _detecting(*images, **fields):
    request = oip("ModelInferRequest", **fields)
    request.inputs.add(name="images", datatype="BYTES", shape=[len(images)])
    request.raw_input_contents.append(join_elements(list(images)))
    request.parameters["detect"].bool_param = True
    return request


async def test_faces_of_whole_pictures_are_found_where_that_is_asked_for(server):
    photograph, wall = ASTRONAUT.read_bytes(), encode(np.full((300, 400), 90, np.uint8))
    response = await ask(server.channel, "ModelInfer", _detecting(wall, photograph, wall, id="x"))
    raw = dict(zip([output.name for output in response.outputs], response.raw_output_contents, strict=True))
    assert list(raw) == ["probabilities", "labels", "face_count", "boxes"]
    counts = np.frombuffer(raw["face_count"], "<i4").tolist()
    assert counts[1] >= 1
    assert counts[0] == counts[2] == 0
    boxes = np.frombuffer(raw["boxes"], "<i4").reshape(-1, 4)
    assert len(boxes) == len(labels_of(response)) == sum(counts)
    left, top, width, height = boxes[0].tolist()
    assert 0 <= left < left + width <= 512
    assert 0 <= top < top + height <= 512


async def test_pictures_without_a_face_give_tensors_without_rows(server):
    wall = encode(np.full((300, 400), 90, np.uint8))
    response = await ask(server.channel, "ModelInfer", _detecting(wall))
    shapes = {output.name: list(output.shape) for output in response.outputs}
    assert shapes == {"probabilities": [0, 7], "labels": [0], "face_count": [1], "boxes": [0, 4]}
    assert [len(raw) for raw in response.raw_output_contents] == [0, 0, 4, 0]


async def test_what_cannot_be_searched_for_faces_is_rejected(server):
    pixels = infer_request(crops(1))
    pixels.parameters["detect"].bool_param = True
    too_many = _detecting(*[b"x"] * 33)
    for request in (pixels, too_many, _detecting(b"no picture")):
        assert await _code(ask(server.channel, "ModelInfer", request)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_parameters_that_nobody_knows_change_nothing(server):
    request = infer_request(crops(2))
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    request.parameters["sequence_id"].uint64_param = 7
    request.parameters["whatever"].double_param = 0.5
    request.inputs[0].parameters["binary_data"].bool_param = True
    response = await ask(server.channel, "ModelInfer", request)
    assert labels_of(response) == [LABELS[2]]
    assert "triton_final_response" not in response.parameters


@pytest.mark.parametrize("field", ["int64_param", "uint64_param"])
async def test_priority_of_old_and_new_clients_is_taken(server, field):
    request = infer_request(crops(2))
    setattr(request.parameters["priority"], field, 2)
    assert labels_of(await ask(server.channel, "ModelInfer", request)) == [LABELS[2]]


async def test_a_timeout_that_passes_in_the_queue_is_a_deadline(tmp_path):
    publish_fake(tmp_path)
    async with local_server(tmp_path, FakeLoader(batch_s=SLOW_BATCH_S)) as server:
        busy = [
            asyncio.ensure_future(ask(server.channel, "ModelInfer", infer_request(crops(1)))) for _ in range(3)
        ]
        await asyncio.sleep(SLOW_BATCH_S / 4)
        late = infer_request(crops(1))
        late.parameters["timeout"].int64_param = 20_000
        assert await _code(ask(server.channel, "ModelInfer", late)) is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.gather(*busy)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (infer_request(crops(1), model_name="other"), grpc.StatusCode.NOT_FOUND),
        (infer_request(crops(1), model_version="9"), grpc.StatusCode.NOT_FOUND),
        (infer_request(crops(1), model_version="latest"), grpc.StatusCode.NOT_FOUND),
        (infer_request(crops(1), model_version="1.5"), grpc.StatusCode.INVALID_ARGUMENT),
        (oip("ModelInferRequest"), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_cannot_be_answered_has_its_status(server, request_, code):
    assert await _code(ask(server.channel, "ModelInfer", request_)) is code


async def test_what_is_not_offered_says_so(server):
    for method in (
        "SystemSharedMemoryRegister",
        "CudaSharedMemoryRegister",
        "TraceSetting",
        "LogSettings",
    ):
        assert await _code(ask(server.channel, method)) is grpc.StatusCode.UNIMPLEMENTED
    for method in ("SystemSharedMemory", "CudaSharedMemory"):
        await ask(server.channel, f"{method}Status")
        await ask(server.channel, f"{method}Unregister")


async def test_the_index_tells_every_version(tmp_path):
    publish_fake(tmp_path, version=1)
    publish_fake(tmp_path, version=2, golden_off_by=0.5)
    async with local_server(tmp_path) as server:
        index = await ask(server.channel, "RepositoryIndex")
        reported = {(each.version, each.state, bool(each.reason)) for each in index.models}
        assert reported == {("1", "READY", False), ("2", "UNAVAILABLE", True)}
        ready = await ask(server.channel, "RepositoryIndex", oip("RepositoryIndexRequest", ready=True))
        assert [each.version for each in ready.models] == ["1"]
        other = oip("RepositoryIndexRequest", repository_name="x")
        assert await _code(ask(server.channel, "RepositoryIndex", other)) is grpc.StatusCode.UNIMPLEMENTED


async def test_statistics_move_in_lock_step(server):
    async def stats(**of):
        (entry,) = (await ask(server.channel, "ModelStatistics", oip("ModelStatisticsRequest", **of))).model_stats
        return entry

    before = await stats()
    assert (before.name, before.version, before.inference_stats.queue.count) == ("fer-nano", "3", 0)
    await asyncio.gather(*(ask(server.channel, "ModelInfer", infer_request(crops(1, 2))) for _ in range(5)))
    await _code(ask(server.channel, "ModelInfer", oip("ModelInferRequest")))
    after = await stats(name="fer-nano", version="3")
    spans = after.inference_stats
    counted = (spans.success, spans.queue, spans.compute_input, spans.compute_infer, spans.compute_output)
    assert [span.count for span in counted] == [5] * 5
    assert spans.fail.count == 1
    assert after.inference_count == 10
    assert after.execution_count == sum(batch.compute_infer.count for batch in after.batch_stats)
    unknown = oip("ModelStatisticsRequest", name="fer-nano", version="8")
    assert await _code(ask(server.channel, "ModelStatistics", unknown)) is grpc.StatusCode.NOT_FOUND


async def test_a_stream_answers_in_order_and_tells_errors_beside_their_id(server):
    stream = open_stream(server.channel)
    for number, request in enumerate([infer_request(crops(1)), oip("ModelInferRequest"), infer_request(crops(4))]):
        request.id = str(number)
        await stream.write(request)
    await stream.done_writing()
    answers = [answer async for answer in stream]
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert labels_of(answers[2].infer_response) == [LABELS[4]]


async def test_a_stream_that_asks_for_it_ends_with_the_status_of_the_first_error(server):
    stream = open_stream(server.channel, (("triton_grpc_error", "true"),))
    await stream.write(infer_request(crops(1), id="good"))
    await stream.write(oip("ModelInferRequest", id="bad"))
    await stream.done_writing()
    assert (await stream.read()).infer_response.id == "good"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_ends_when_the_server_drains(server):
    stream = open_stream(server.channel)
    await stream.write(infer_request(crops(1)))
    assert labels_of((await stream.read()).infer_response) == [LABELS[1]]
    drained = server.running.drain()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await drained


async def test_health_and_reflection_know_the_services(server):
    for service in (INFERENCE, PREDICTION, MODEL_STATUS):
        await server.wait_for(service=service)
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=INFERENCE),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="ferserve.v1.EmotionService"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="compat/tensorflow_serving.proto"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Service"),
    ]
    answers = [answer async for answer in stub.ServerReflectionInfo(iter(questions))]
    named = {service.name for service in answers[0].list_services_response.service}
    assert {INFERENCE, PREDICTION, MODEL_STATUS, "ferserve.v1.EmotionService"} <= named
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in answers[1:4])
    assert answers[4].HasField("error_response")


async def test_both_interfaces_can_be_turned_off(tmp_path):
    publish_fake(tmp_path)
    async with local_server(tmp_path, open_inference=False, tf_serving=False) as server:
        assert await _code(ask(server.channel, "ServerLive")) is grpc.StatusCode.UNIMPLEMENTED
        assert await _code(server.state(INFERENCE)) is grpc.StatusCode.NOT_FOUND


def test_the_messages_leave_the_default_pool_alone():
    code = (
        "import ferserve_server.app.primary_main\n"
        "from google.protobuf import descriptor_pool\n"
        "for name in ('inference.ServerLiveRequest', 'tensorflow.TensorProto'):\n"
        "    try: descriptor_pool.Default().FindMessageTypeByName(name)\n"
        "    except KeyError: continue\n"
        "    raise SystemExit(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
