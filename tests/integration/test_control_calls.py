"""Tests control calls over real sockets: their authorisation and their effects."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from asyncio import to_thread
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.backends.fake import FakeLoader, FakeServable
from ferserve_server.config.settings import Settings
from ferserve_server.interop.messages import message_class
from ferserve_server.services.control_access import TokenFileError, read_token
from support.fake_models import publish_fake
from support.local_server import LocalServer, Rejection, Stubs, eventually, local_server, rejection_of

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from ferserve_server.domain.servable import ServableId

LOAD = model_pb2.LoadVersionRequest(version=1)
CALLS = {
    "LoadVersion": LOAD,
    "UnloadVersion": model_pb2.UnloadVersionRequest(version=1),
    "SetAlias": model_pb2.SetAliasRequest(alias="stable", version=1),
    "DeleteAlias": model_pb2.DeleteAliasRequest(alias="stable"),
    "PromoteVersion": model_pb2.PromoteVersionRequest(),
    "RollBack": model_pb2.RollBackRequest(),
}


async def _rejected(call: Awaitable[Any]) -> Rejection:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rejection_of(caught.value)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version in (1, 2):
        publish_fake(tmp_path / "models", version=version)
    return tmp_path / "models"


def _repository_call(
    channel: grpc.aio.Channel, what: str, version: int | None = None, model: str = "fer-nano"
) -> Any:
    request = message_class(f"inference.{what}Request")(model_name=model)
    if version is not None:
        request.parameters["version"].int64_param = version
    call = channel.unary_unary(
        f"/inference.GRPCInferenceService/{what}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_class(f"inference.{what}Response").FromString,
    )
    return call(request)


@pytest.mark.parametrize("method", CALLS)
async def test_control_calls_are_rejected_unless_they_are_turned_on(models: Path, method: str) -> None:
    async with local_server(models) as server:
        rejection = await _rejected(getattr(server.models, method)(CALLS[method]))
    assert (rejection.code, rejection.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CONTROL_DISABLED")
    assert "control_listen" in rejection.message


async def test_versions_are_loaded_aliased_promoted_and_taken_back_by_call(models: Path) -> None:
    async with local_server(models, control_on_main=True, repository_poll_s=0) as server:
        call = server.models
        loaded = (await call.LoadVersion(LOAD)).model
        assert [each.state for each in loaded.versions] == [model_pb2.SERVABLE_STATE_READY] * 2
        await call.LoadVersion(LOAD)  # again, without harm
        for alias, version in (("stable", 1), ("canary", 2)):
            model = (await call.SetAlias(model_pb2.SetAliasRequest(alias=alias, version=version))).model
        assert (dict(model.aliases), model.serving_version) == ({"stable": 1, "canary": 2}, 1)
        for _ in range(2):  # named, so the second one changes nothing
            model = (await call.PromoteVersion(model_pb2.PromoteVersionRequest(version=2))).model
            assert dict(model.aliases) == {"stable": 2}
        for _ in range(2):
            model = (await call.RollBack(model_pb2.RollBackRequest(version=2))).model
            assert (dict(model.aliases), model.serving_version) == ({"stable": 1}, 1)
        model = (await call.DeleteAlias(model_pb2.DeleteAliasRequest(alias="stable"))).model
        assert dict(model.aliases) == {}
        await call.LoadVersion(model_pb2.LoadVersionRequest(version=2))
        model = (await call.UnloadVersion(model_pb2.UnloadVersionRequest(version=1))).model
        assert model.serving_version == 2


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason"),
    [
        ("LoadVersion", LOAD.__class__(version=9), grpc.StatusCode.NOT_FOUND, "VERSION_NOT_FOUND"),
        ("LoadVersion", LOAD.__class__(version=0), grpc.StatusCode.INVALID_ARGUMENT, "OPTION_OUT_OF_RANGE"),
        ("LoadVersion", LOAD.__class__(name="../x"), grpc.StatusCode.INVALID_ARGUMENT, "OPTION_OUT_OF_RANGE"),
        ("UnloadVersion", model_pb2.UnloadVersionRequest(version=2), None, "VERSION_IN_USE"),
        ("SetAlias", model_pb2.SetAliasRequest(alias="held", version=2), None, "ALIAS_FIXED"),
        ("SetAlias", model_pb2.SetAliasRequest(alias="7", version=2), None, "ALIAS_NAME_INVALID"),
        ("SetAlias", model_pb2.SetAliasRequest(alias="new", version=9), None, "VERSION_NOT_READY"),
        ("DeleteAlias", model_pb2.DeleteAliasRequest(alias="none"), None, "ALIAS_NOT_FOUND"),
        ("PromoteVersion", model_pb2.PromoteVersionRequest(name="no"), None, "MODEL_NOT_FOUND"),
        ("PromoteVersion", model_pb2.PromoteVersionRequest(), grpc.StatusCode.FAILED_PRECONDITION, "NO_CANARY"),
        ("RollBack", model_pb2.RollBackRequest(version=7), grpc.StatusCode.FAILED_PRECONDITION, "NO_CANARY"),
    ],
)
async def test_what_cannot_be_done_has_its_status(
    models: Path, method: str, request_: Any, code: grpc.StatusCode | None, reason: str
) -> None:
    async with local_server(models, control_on_main=True, alias=("fer-nano:held=2",)) as server:
        rejection = await _rejected(getattr(server.models, method)(request_))
        assert (await server.models.GetModel(model_pb2.GetModelRequest())).model.serving_version == 2
    assert rejection.reason == reason
    assert code in {None, rejection.code}


async def test_a_rollback_with_nothing_to_go_back_to_is_rejected(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, control_on_main=True) as server:
        rejection = await _rejected(server.models.RollBack(model_pb2.RollBackRequest()))
    assert (rejection.code, rejection.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_OLDER_VERSION")


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        ("Bearer s3cret", True),
        ("bearer s3cret", True),
        ("Bearer s3cre", False),
        ("Bearer", False),
        ("s3cret", False),
        ("Basic s3cret", False),
        (None, False),
    ],
)
async def test_only_the_token_of_the_file_lets_in(
    tmp_path: Path, models: Path, header: str | None, *, admitted: bool
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    metadata = [] if header is None else [("authorization", header)]
    async with local_server(models, control_on_main=True, control_token_file=token) as server:
        if admitted:
            await server.models.LoadVersion(LOAD, metadata=metadata)
        else:
            rejection = await _rejected(server.models.LoadVersion(LOAD, metadata=metadata))
            assert (rejection.code, rejection.reason) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "CONTROL_UNAUTHENTICATED",
            )
            assert "s3cret" not in rejection.message


class WaitingLoader(FakeLoader):
    """Loads version 1 only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_load = threading.Event()

    def load(self, servable_id: ServableId, *more: Any) -> FakeServable:
        if servable_id.version == 1:
            assert self.may_load.wait(60)
        return super().load(servable_id, *more)


async def test_a_load_goes_on_when_its_caller_leaves(models: Path) -> None:
    loader = WaitingLoader()
    async with local_server(models, loader, control_on_main=True, repository_poll_s=0) as server:
        rejection = await _rejected(server.models.LoadVersion(LOAD, timeout=0.5))
        assert rejection.code is grpc.StatusCode.DEADLINE_EXCEEDED
        loader.may_load.set()

        async def loaded() -> bool:
            model = (await server.models.GetModel(model_pb2.GetModelRequest())).model
            return [each.state for each in model.versions] == [model_pb2.SERVABLE_STATE_READY] * 2

        await eventually(loaded)


def test_a_token_file_that_is_empty_or_missing_keeps_the_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    for name in ("empty", "missing"):
        with pytest.raises(TokenFileError, match=name):
            read_token(tmp_path / name)
    assert Settings().control.control_listen == "off"


@pytest.mark.parametrize("kind", ["port", "unix"])
async def test_with_an_address_of_its_own_control_is_taken_there_and_nowhere_else(
    tmp_path: Path, models: Path, kind: str
) -> None:
    socket = tmp_path / "control.sock"
    address = "127.0.0.1:0" if kind == "port" else f"unix:{socket}"
    async with local_server(models, control_listen=address) as server:
        rejection = await _rejected(server.models.LoadVersion(LOAD))
        assert rejection.reason == "CONTROL_DISABLED"
        assert "at this address" in rejection.message
        target = f"127.0.0.1:{server.running.control_port}" if kind == "port" else address
        async with grpc.aio.insecure_channel(target) as channel:
            own = Stubs(channel)
            assert len((await own.models.LoadVersion(LOAD)).model.versions) == 2
            await _repository_call(channel, "RepositoryModelUnload", 1)
            assert (await own.models.GetModel(model_pb2.GetModelRequest())).model.serving_version == 2
            with pytest.raises(grpc.aio.AioRpcError) as caught:  # faces are not answered there
                await own.emotion.ClassifyFaces(model_pb2.GetModelRequest())
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_open_inference_protocol_loads_and_unloads_versions_by_the_same_rules(models: Path) -> None:
    async with local_server(models) as server:
        for what in ("RepositoryModelLoad", "RepositoryModelUnload"):
            rejection = await _rejected(_repository_call(server.channel, what, 1))
            assert rejection.reason == "CONTROL_DISABLED"
    async with local_server(models, control_on_main=True, repository_poll_s=0) as server:
        await _repository_call(server.channel, "RepositoryModelLoad", 1)
        await _repository_call(server.channel, "RepositoryModelUnload", 2)
        assert (await server.models.GetModel(model_pb2.GetModelRequest())).model.serving_version == 1
        publish_fake(models, version=3)
        await _repository_call(server.channel, "RepositoryModelLoad")  # looks into the folder now
        assert (await server.models.GetModel(model_pb2.GetModelRequest())).model.serving_version == 3
        for what, version, model in (
            ("RepositoryModelUnload", None, "fer-nano"),
            ("RepositoryModelLoad", -1, "fer-nano"),
            ("RepositoryModelLoad", None, "none"),
        ):
            rejection = await _rejected(_repository_call(server.channel, what, version, model))
            assert rejection.reason == ("MODEL_NOT_FOUND" if model == "none" else "OPTION_OUT_OF_RANGE")


def _post(server: LocalServer, what: str, body: bytes = b"", token: str = "") -> tuple[int, dict[str, object]]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    url = f"{server.http_url}/v2/repository/models/fer-nano/{what}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


async def test_over_http_versions_are_loaded_and_unloaded_by_the_same_rules(tmp_path: Path, models: Path) -> None:
    async with local_server(models, http_listen="127.0.0.1:0") as server:
        status, document = await to_thread(_post, server, "load")
        assert (status, document["reason"]) == (403, "CONTROL_DISABLED")
    token = tmp_path / "token"
    token.write_text("s3cret")
    chosen = {"control_on_main": True, "control_token_file": token, "http_listen": "127.0.0.1:0"}
    async with local_server(models, **chosen) as server:
        status, document = await to_thread(_post, server, "load", b"", "wrong")
        assert (status, document["reason"]) == (401, "CONTROL_UNAUTHENTICATED")
        for what, body, expected in (
            ("load", b'{"parameters": {"version": 1}}', 200),
            ("unload", b'{"parameters": {"version": "1"}}', 200),
            ("load", b"", 200),
            ("unload", b"", 400),
            ("unload", b"{", 400),
            ("unload", b'{"parameters": [1]}', 400),
            ("unload", b'{"parameters": {"version": true}}', 400),
            ("load", b'{"parameters": {"version": 9}}', 404),
        ):
            assert (await to_thread(_post, server, what, body, "s3cret"))[0] == expected, body
