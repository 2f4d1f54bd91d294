"""Tests traces end to end: a client, every interface, the batch and its engine, and a real OTLP receiver."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import grpc
import numpy as np
import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_client import AsyncEmotionClient
from ferserve_server.http.frames import FRAME_HEADER
from support.compat import ask, crops, infer_request
from support.fake_models import publish_fake
from support.local_server import GRPC_SERVERS, LocalServer, local_server, packed, rejection_of
from support.otlp import INTERNAL_KIND, SERVER_KIND, OtlpReceiver, ReceivedSpan
from support.pictures import ASTRONAUT
from support.tiers import detection_tier
from support.worker_server import worker_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLASSIFY = "ferserve.v1.EmotionService/ClassifyFaces"
CALLER = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
SAMPLED = f"00-{CALLER[0]}-{CALLER[1]}-01"
NOT_SAMPLED = f"00-{CALLER[0]}-{CALLER[1]}-00"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    """A receiver to which servers that start from now on export."""
    with OtlpReceiver() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def models(tmp_path: Path) -> Path:
    repository = tmp_path / "models"
    publish_fake(repository)
    return repository


async def classify(server: LocalServer, traceparent: str = SAMPLED, *, face_count: int = 1) -> None:
    request = emotion_pb2.ClassifyFacesRequest(packed=packed(*[1] * face_count))
    await server.emotion.ClassifyFaces(request, metadata=(("traceparent", traceparent),), timeout=20)


async def call_of(receiver: OtlpReceiver, name: str) -> ReceivedSpan:
    """Waits for the one SERVER span of a name."""
    await asyncio.to_thread(receiver.wait_for, lambda: receiver.named(name))
    (span,) = receiver.named(name)
    return span


async def stages_of(receiver: OtlpReceiver, span: ReceivedSpan, *names: str) -> list[ReceivedSpan]:
    """Waits for the one child of each name."""
    await asyncio.to_thread(receiver.wait_for, lambda: set(names) <= set(receiver.children(span)))
    return [only for name in names for (only,) in (receiver.children(span)[name],)]


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_a_sampled_call_is_a_span_with_its_stages_and_its_batch_another_trace_that_links_to_it(
    models: Path, receiver: OtlpReceiver, grpc_server: str
) -> None:
    async with local_server(models, grpc_server=grpc_server) as server:
        await classify(server, face_count=2)
        call = await call_of(receiver, CLASSIFY)
        queue, inference = await stages_of(receiver, call, "queue", "inference")
        batch = await call_of(receiver, "batch")
        (execute,) = await stages_of(receiver, batch, "execute")

    assert (call.trace_id, call.parent_id, call.kind) == (*CALLER, SERVER_KIND)
    assert call.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": CLASSIFY,
        "rpc.response.status_code": "OK",
    }
    assert not call.is_error
    assert call.resource["service.name"] == "ferserve"
    assert queue.attributes == {"ferserve.dispatch_reason": "executor_idle"}
    assert inference.attributes["ferserve.faces"] == 2
    assert inference.attributes["ferserve.model"] == "fer-nano"
    assert inference.links == (batch.key,)
    assert batch.links == (inference.key,)
    assert (batch.parent_id, batch.kind) == ("", INTERNAL_KIND)
    assert batch.trace_id != call.trace_id
    assert batch.attributes["ferserve.padded_faces"] == 4
    assert call.start_ns <= queue.start_ns <= queue.end_ns == inference.start_ns
    assert inference.end_ns <= call.end_ns
    assert batch.start_ns <= execute.start_ns <= execute.end_ns <= batch.end_ns


async def test_the_sampled_calls_of_one_batch_are_all_linked_and_the_others_are_not(
    models: Path, receiver: OtlpReceiver
) -> None:
    async with local_server(models, max_queue_delay_ms=500, hold_until_queued=3) as server:
        await asyncio.gather(classify(server), classify(server), classify(server, NOT_SAMPLED))
        await asyncio.to_thread(receiver.wait_for, lambda: len(receiver.named(CLASSIFY)) == 2)
        await asyncio.to_thread(receiver.wait_for, lambda: receiver.named("batch"))
        (batch,) = receiver.named("batch")

    assert batch.attributes["ferserve.batch_faces"] == 3
    assert set(batch.links) == {span.key for span in receiver.named("inference")}
    assert len(batch.links) == 2


async def test_the_client_passes_its_trace_on_also_over_streams(models: Path, receiver: OtlpReceiver) -> None:
    tracer = TracerProvider().get_tracer("test")
    faces = np.zeros((1, 48, 48), np.uint8)
    async with local_server(models) as server, AsyncEmotionClient(server.address) as client:
        with tracer.start_as_current_span("caller") as caller:
            await client.classify(faces)
            answers = [answer async for answer in client.classify_stream([faces])]
        call = await call_of(receiver, CLASSIFY)
        message = await call_of(receiver, "ferserve.v1.EmotionService/ClassifyStream message")

    context = caller.get_span_context()
    ids = (otel.format_trace_id(context.trace_id), otel.format_span_id(context.span_id))
    assert len(answers) == 1
    assert (call.trace_id, call.parent_id) == ids
    assert message.links == (ids,)


async def test_a_picture_has_spans_for_decoding_and_detection(models: Path, receiver: OtlpReceiver) -> None:
    request = emotion_pb2.AnalyzeImagesRequest(images=[ASTRONAUT.read_bytes()])
    async with local_server(models) as server:
        await server.emotion.AnalyzeImages(request, metadata=(("traceparent", SAMPLED),), timeout=20)
        call = await call_of(receiver, "ferserve.v1.EmotionService/AnalyzeImages")
        decode, detect, queue, _ = await stages_of(receiver, call, "decode", "detect", "queue", "inference")

    assert detect.attributes == {"ferserve.faces": 1}
    assert call.start_ns <= decode.start_ns <= decode.end_ns == detect.start_ns
    assert detect.end_ns <= queue.start_ns


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_messages_of_a_stream_are_traces_of_their_own_one_a_second_and_the_stream_is_none(
    models: Path, receiver: OtlpReceiver, grpc_server: str
) -> None:
    async def requests():
        for number in range(5):
            yield emotion_pb2.ClassifyStreamRequest(sequence_id=number, faces=packed(1))

    async with local_server(models, grpc_server=grpc_server) as server:
        calls = server.emotion.ClassifyStream(requests(), metadata=(("traceparent", SAMPLED),), timeout=20)
        answers = [answer async for answer in calls]
        message = await call_of(receiver, "ferserve.v1.EmotionService/ClassifyStream message")
        await stages_of(receiver, message, "queue", "inference")

    assert len(answers) == 5
    assert message.links == (CALLER,)
    assert (message.trace_id != CALLER[0], message.parent_id) == (True, "")
    assert not receiver.named("ferserve.v1.EmotionService/ClassifyStream")


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_a_frame_of_a_stream_is_traced_from_its_arrival_to_its_answer(
    models: Path, receiver: OtlpReceiver, grpc_server: str
) -> None:
    async def frames():
        policy = emotion_pb2.OVERLOAD_POLICY_EVERY_FRAME
        yield emotion_pb2.StreamFramesRequest(config=emotion_pb2.FrameStreamConfig(overload_policy=policy))
        for number in range(3):
            frame = emotion_pb2.Frame(sequence_id=number, image=ASTRONAUT.read_bytes())
            yield emotion_pb2.StreamFramesRequest(frame=frame)

    async with local_server(models, grpc_server=grpc_server) as server:
        calls = server.emotion.StreamFrames(frames(), metadata=(("traceparent", SAMPLED),), timeout=20)
        assert len([answer async for answer in calls]) == 3
        frame = await call_of(receiver, "ferserve.v1.EmotionService/StreamFrames message")
        await stages_of(receiver, frame, "decode", "detect", "queue", "inference")

    assert frame.links == (CALLER,)
    assert frame.attributes["ferserve.sequence_id"] == 0
    # Frames that were not sampled have run after it, and none of their spans is below it.
    assert all(len(spans) == 1 for spans in receiver.children(frame).values())


async def test_http_and_websocket_and_the_open_inference_protocol_are_traced(
    models: Path, receiver: OtlpReceiver
) -> None:
    image = ASTRONAUT.read_bytes()
    async with local_server(models, http_listen="127.0.0.1:0") as server, aiohttp.ClientSession() as session:
        headers = {"Traceparent": SAMPLED, "Tracestate": "vendor=1"}
        async with session.post(f"{server.http_url}/v1/analyze", data=image, headers=headers) as answer:
            assert answer.status == 200
        async with session.ws_connect(f"{server.http_url}/v1/stream", headers=headers) as socket:
            await socket.send_str("{}")
            assert json.loads((await socket.receive()).data)
            await socket.send_bytes(FRAME_HEADER.pack(0, float("nan")) + image)
            assert json.loads((await socket.receive()).data)
        await ask(server.channel, "ModelInfer", infer_request(crops(1)), (("traceparent", SAMPLED),))
        call = await call_of(receiver, "POST /v1/analyze")
        frame = await call_of(receiver, "GET /v1/stream message")
        infer = await call_of(receiver, "inference.GRPCInferenceService/ModelInfer")
        await stages_of(receiver, call, "decode", "detect", "queue", "inference")
        await stages_of(receiver, frame, "decode", "detect", "queue", "inference")
        await stages_of(receiver, infer, "queue", "inference")

    assert (call.trace_id, call.parent_id, call.state) == (*CALLER, "vendor=1")
    assert call.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/analyze",
        "http.response.status_code": 200,
    }


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_worker_processes_export_their_calls_and_the_primary_process_what_it_does_for_them(
    models: Path, receiver: OtlpReceiver, grpc_server: str
) -> None:
    async with worker_server(models, grpc_server=grpc_server) as server:
        await asyncio.gather(*(classify(server) for _ in range(4)))
        await asyncio.to_thread(receiver.wait_for, lambda: len(receiver.named(CLASSIFY)) == 4)
        await asyncio.to_thread(receiver.wait_for, lambda: len(receiver.named("inference")) == 4)

    for call in receiver.named(CLASSIFY):
        assert set(receiver.children(call)) == {"queue", "inference"}
    batches = {span.key for span in receiver.named("batch")}
    assert all(set(span.links) <= batches for span in receiver.named("inference"))


async def test_a_server_before_a_model_tier_passes_the_batch_on(models: Path, receiver: OtlpReceiver) -> None:
    async with local_server(models) as tier, detection_tier(tier.address) as front:
        await classify(front)
        await asyncio.to_thread(receiver.wait_for, lambda: len(receiver.named("batch")) == 2)
        await asyncio.to_thread(receiver.wait_for, lambda: len(receiver.named(CLASSIFY)) == 2)

    (call,) = [span for span in receiver.named(CLASSIFY) if span.trace_id == CALLER[0]]
    (inference,) = receiver.children(call)["inference"]
    (outer,) = [batch for batch in receiver.named("batch") if batch.key in inference.links]
    (there,) = receiver.children(outer)[CLASSIFY]
    assert there.kind == SERVER_KIND
    assert set(receiver.children(there)) == {"queue", "inference"}


async def test_a_failed_call_names_its_trace_in_its_details_and_its_span_the_reason(
    models: Path, receiver: OtlpReceiver
) -> None:
    request = emotion_pb2.ClassifyFacesRequest(packed=packed(1))
    request.model.name = "absent"
    async with local_server(models, http_listen="127.0.0.1:0") as server, aiohttp.ClientSession() as session:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await server.emotion.ClassifyFaces(request, metadata=(("traceparent", SAMPLED),))
        address = f"{server.http_url}/v1/analyze?model=absent"
        headers = {"traceparent": SAMPLED}
        async with session.post(address, data=ASTRONAUT.read_bytes(), headers=headers) as answer:
            problem = await answer.json()
        call = await call_of(receiver, CLASSIFY)

    assert rejection_of(failed.value).metadata["trace_id"] == CALLER[0]
    assert problem["metadata"]["trace_id"] == CALLER[0]
    assert call.attributes["error.type"] == "MODEL_NOT_FOUND"
    assert call.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert not call.is_error  # the caller's fault, by the semantic conventions


async def test_a_call_that_is_not_sampled_leaves_nothing(models: Path, receiver: OtlpReceiver) -> None:
    request = emotion_pb2.ClassifyFacesRequest(packed=packed(1))
    request.model.name = "absent"
    async with local_server(models) as server:
        await classify(server, NOT_SAMPLED)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await server.emotion.ClassifyFaces(request, metadata=(("traceparent", NOT_SAMPLED),))
        await classify(server)
        await call_of(receiver, CLASSIFY)

    assert "trace_id" not in rejection_of(failed.value).metadata
    assert len(receiver.named(CLASSIFY)) == 1


async def test_a_server_ends_in_time_though_nobody_takes_its_traces(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    async with asyncio.timeout(15):
        async with local_server(models) as server:
            await classify(server)


async def test_the_last_spans_are_sent_when_the_server_ends(
    models: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    async with local_server(models) as server:
        await classify(server)
        assert not receiver.named(CLASSIFY)
    await call_of(receiver, CLASSIFY)
