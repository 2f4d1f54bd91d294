"""Runs a server within the test's own process, on a real loopback socket, with a fake engine."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc, face_pb2, model_service_pb2_grpc
from ferserve_server.app.overrides import Overrides
from ferserve_server.app.primary_main import RunningServer, running_server
from ferserve_server.backends.fake import FakeLoader
from ferserve_server.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from google.protobuf.message import Message

    from ferserve_server.domain.ports import Loader

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
DEADLINE_S = 20.0
GRPC_SERVERS = ("native", "grpcio")
"""The servers of gRPC calls."""


@dataclass
class Stubs:
    """Raw stubs over one channel."""

    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.emotion: Any = emotion_service_pb2_grpc.EmotionServiceStub(self.channel)
        self.models: Any = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)

    async def state(self, service: str = "") -> int:
        """What health says of a service."""
        return (await self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status

    async def wait_for(self, status: int = SERVING, service: str = "") -> None:
        """Waits until health says so."""
        await eventually(lambda: self._is(status, service))

    async def wait_until_gone(self) -> None:
        """Waits until the server accepts neither calls on this connection nor another connection."""

        async def gone() -> bool:
            try:
                await self.state()
            except grpc.aio.AioRpcError as error:
                return "failed to connect" in (error.details() or "")
            return False

        await eventually(gone)

    async def _is(self, status: int, service: str) -> bool:
        return await self.state(service) == status


@dataclass
class LocalServer(Stubs):
    """A server that runs, and stubs on it."""

    running: RunningServer
    loader: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.running.port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.running.http_port}"


@contextlib.asynccontextmanager
async def local_server(
    model_repo: Path, loader: Loader | None = None, *, ready: bool = True, **settings: object
) -> AsyncIterator[LocalServer]:
    """Runs a server until the block is left; with `ready` it answers when the block begins.

    `settings` are by flat name, and those of `Overrides` too.
    """
    chosen: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "http_listen": "off",
        "metrics_listen": "off",
        "repository_poll_s": 0.02,
        "bucket_sizes": (1, 4, 16),
        "vision_threads": 1,
        "default_model": "fer-nano",
        # What a test expects must not hang on what a busy machine measures.
        "precision": "float32",
        "tune": "fixed",
        "listen_before_ready": not ready,
    }
    overrides = take_overrides(settings)
    wanted = Settings.of(model_repo=model_repo, **(chosen | settings))
    chosen_loader = loader or FakeLoader()
    async with running_server(wanted, chosen_loader, overrides) as running:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}", options) as channel:
            server = LocalServer(channel, running, chosen_loader)
            if ready:
                await server.wait_for(SERVING)
            yield server


def take_overrides(settings: dict[str, Any]) -> Overrides:
    """Takes the values of `Overrides` out of the settings of a test."""
    names = [field.name for field in fields(Overrides) if field.name in settings]
    return Overrides(**{name: settings.pop(name) for name in names})


async def eventually(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> None:
    """Waits until an async condition holds; fails after that many seconds."""
    async with asyncio.timeout(deadline_s):
        while not await condition():  # noqa: ASYNC110 - what is waited for has no event here
            await asyncio.sleep(0.01)


def packed(*classes: int) -> face_pb2.PackedFaces:
    """Faces that `FakeLoader`'s servables put into these classes, 0 to 6."""
    crops = np.zeros((len(classes), 48, 48), np.uint8)
    crops[:, 0, 0] = classes
    return face_pb2.PackedFaces(pixels=crops.tobytes(), face_count=len(classes))


def classes_of(response: emotion_pb2.ClassifyFacesResponse) -> list[int]:
    """The class of each face of an answer without failures."""
    assert all(result.WhichOneof("outcome") == "prediction" for result in response.results)
    return [result.prediction.label_index for result in response.results]


async def taken_in(server: LocalServer, request: emotion_pb2.ClassifyFacesRequest) -> bool:
    """Whether faces are answered; False if there is no room for them."""
    try:
        await server.emotion.ClassifyFaces(request)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False
    return True


@dataclass
class Rejection:
    """Why a call failed, as its status tells."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    fields: list[str]
    retry_delay_ms: int | None


def rejection_of(error: grpc.RpcError | grpc.aio.AioRpcError) -> Rejection:
    """Reads the details of a status; "" is the reason of one that is not ours."""
    found: dict[type[Message], Message] = {}
    status = rpc_status.from_call(error)
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
    for packed_detail in status.details if status else ():
        for kind in kinds:
            detail = kind()
            if packed_detail.Unpack(detail):
                found[kind] = detail
    info: Any = found.get(error_details_pb2.ErrorInfo, error_details_pb2.ErrorInfo())
    bad: Any = found.get(error_details_pb2.BadRequest, error_details_pb2.BadRequest())
    retry: Any = found.get(error_details_pb2.RetryInfo)
    return Rejection(
        error.code(),
        error.details() or "",
        info.reason,
        dict(info.metadata),
        [violation.field for violation in bad.field_violations],
        None if retry is None else retry.retry_delay.ToMilliseconds(),
    )
