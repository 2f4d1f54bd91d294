"""Tests aliases and policies over real sockets, and their state after a restart."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import TYPE_CHECKING

import grpc
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve.v1 import servable_pb2
from ferserve_client import AsyncEmotionClient, ModelNotFoundError, ModelNotReadyError
from ferserve_server.interop.messages import message_class
from support.fake_models import GOLDEN_FACES, publish_fake
from support.local_server import LocalServer, eventually, local_server, packed, rejection_of

if TYPE_CHECKING:
    from pathlib import Path


def _request(**spec: object) -> emotion_pb2.ClassifyFacesRequest:
    return emotion_pb2.ClassifyFacesRequest(packed=packed(1), model=servable_pb2.ModelSpec(**spec))


async def _version(server: LocalServer, **spec: object) -> int:
    return int((await server.emotion.ClassifyFaces(_request(**spec))).servable.version)


async def _model(server: LocalServer) -> model_pb2.Model:
    return (await server.models.GetModel(model_pb2.GetModelRequest())).model


async def test_aliases_of_the_settings_lead_every_interface_to_their_versions(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        publish_fake(tmp_path, version=version)
    aliases = ("fer-nano:stable=1", "fer-nano:canary=2")
    async with local_server(tmp_path, alias=aliases, metrics_listen="127.0.0.1:0") as server:
        await eventually(lambda: _has_ready(server, 3))
        assert await _version(server) == 1
        assert await _version(server, version_label="canary") == 2
        assert await _version(server, version=3) == 3
        assert await _ask_open_inference(server, "canary") == "2"
        assert await _ask_open_inference(server, "") == "1"
        assert await _ask_tensorflow_serving(server) == 2
        model = await _model(server)
        assert dict(model.aliases) == {"stable": 1, "canary": 2}
        assert (model.version_policy, model.serving_version) == ("latest:1", 1)
        assert [list(each.aliases) for each in model.versions] == [[], ["canary"], ["stable"]]
        text = await asyncio.to_thread(_metrics, server.running.metrics_port)
        assert 'ferserve_model_alias{alias="canary",model="fer-nano"} 2.0' in text
        assert 'ferserve_model_serving_version{model="fer-nano"} 1.0' in text


async def _has_ready(server: LocalServer, count: int) -> bool:
    states = [each.state for each in (await _model(server)).versions]
    return states.count(model_pb2.SERVABLE_STATE_READY) == count


def _metrics(port: int | None) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        return response.read().decode()


async def _ask_open_inference(server: LocalServer, version: str) -> str:
    request = message_class("inference.ModelInferRequest")(model_name="fer-nano", model_version=version)
    request.inputs.add(name="faces", datatype="UINT8", shape=[1, 48, 48, 1])
    request.raw_input_contents.append(GOLDEN_FACES[:1].tobytes())
    call = server.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_class("inference.ModelInferResponse").FromString,
    )
    return str((await call(request)).model_version)


async def _ask_tensorflow_serving(server: LocalServer) -> int:
    request = message_class("tensorflow.serving.GetModelStatusRequest")()
    request.model_spec.name = "fer-nano"
    request.model_spec.version_label = "canary"
    call = server.channel.unary_unary(
        "/tensorflow.serving.ModelService/GetModelStatus",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_class("tensorflow.serving.GetModelStatusResponse").FromString,
    )
    (status,) = (await call(request)).model_version_status
    return int(status.version)


async def test_the_client_names_aliases_as_it_names_versions(tmp_path: Path) -> None:
    for version in (1, 2):
        publish_fake(tmp_path, version=version)
    aliases = ("fer-nano:stable=1", "fer-nano:broken=7")
    async with local_server(tmp_path, alias=aliases) as server:
        await eventually(lambda: _has_ready(server, 2))
        async with AsyncEmotionClient(server.address, timeout_s=1.0) as client:
            for version, expected in ((None, 1), ("stable", 1), (2, 2), ("2", 2)):
                found = await client.classify(GOLDEN_FACES, version=version)
                assert found.servable is not None
                assert found.servable.version == expected
            with pytest.raises(ModelNotFoundError, match="its aliases: broken, stable"):
                await client.classify(GOLDEN_FACES, version="canary")
            with pytest.raises(ModelNotReadyError, match="names version 7, which is not ready"):
                await client.classify(GOLDEN_FACES, version="broken")
            model = await client.model()
        assert (model.aliases, model.serving_version) == ({"broken": 7, "stable": 1}, 1)
        assert model.version_policy == "latest:1"
        assert model.versions[0].error is not None
        assert model.versions[0].error.reason == "VERSION_MISSING"
        validation = model.versions[1].validation
        assert validation is not None
        assert validation.active_version == 1
        assert validation.agreement == 1.0


@pytest.mark.parametrize(
    ("label", "code", "reason"),
    [
        ("canary", grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND"),
        ("../x", grpc.StatusCode.INVALID_ARGUMENT, "ALIAS_NAME_INVALID"),
        ("", grpc.StatusCode.INVALID_ARGUMENT, "ALIAS_NAME_INVALID"),
        ("7", grpc.StatusCode.INVALID_ARGUMENT, "ALIAS_NAME_INVALID"),
    ],
)
async def test_an_alias_that_leads_nowhere_has_its_status(
    tmp_path: Path, label: str, code: grpc.StatusCode, reason: str
) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _version(server, version_label=label)
    rejection = rejection_of(caught.value)
    assert (rejection.code, rejection.reason) == (code, reason)


async def test_a_policy_keeps_the_versions_it_names_and_no_newer_one(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        publish_fake(tmp_path, version=version)
    async with local_server(tmp_path, version_policy=("fer-nano=specific:1,2",)) as server:
        await eventually(lambda: _has_ready(server, 2))
        assert [each.version for each in (await _model(server)).versions] == [2, 1]
        assert await _version(server) == 2


async def test_aliases_of_the_state_file_are_active_and_the_settings_win(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        publish_fake(tmp_path / "models", version=version)
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"format_version": 1, "aliases": {"fer-nano": {"stable": 1, "canary": 2}}}))
    chosen = {"lifecycle_state_file": path, "alias": ("fer-nano:canary=3",)}
    async with local_server(tmp_path / "models", **chosen) as server:
        await eventually(lambda: _has_ready(server, 2))
        assert await _version(server) == 1
        assert await _version(server, version_label="canary") == 3


async def test_a_broken_state_file_does_not_keep_the_service_from_starting(tmp_path: Path) -> None:
    publish_fake(tmp_path / "models")
    path = tmp_path / "state.json"
    path.write_text("{")
    async with local_server(tmp_path / "models", lifecycle_state_file=path) as server:
        assert await _version(server) == 1
    assert path.read_text() == "{"


async def test_a_version_that_is_renamed_into_place_is_found_without_waiting_for_the_next_look(
    tmp_path: Path,
) -> None:
    publish_fake(tmp_path, version=1)
    async with local_server(tmp_path, repository_poll_s=1000) as server:
        version = 1
        while await _version(server) == 1:
            # The watch begins on a thread of its own, so what comes first may be before it.
            version += 1
            publish_fake(tmp_path, version=version)
            await asyncio.sleep(1)
